//! The way to the core: whatever crosses it does so in a class and under the one budget of the site's link.

use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use common::broker;
use common::budget::{Budget, Class};
use common::kafka::{Dial, Stream};
use tokio::io::{AsyncReadExt as _, copy, empty, join, repeat, sink};
use tokio::net::TcpStream;

use crate::settings::Settings;

/// What was spent, kept where the site keeps things.
const FILE: &str = "link-budget.json";

/// Opens connections of one class under the budget.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) budget: Budget,
    pub(crate) class: Class,
}

#[async_trait]
impl Dial for Line {
    async fn dial(&self, host: &str, port: u16) -> io::Result<Box<dyn Stream>> {
        let stream = self.budget.connect((host, port), self.class).await?;
        // Whatever is worth something was answered before a connection is dropped; what is not must not go on crossing
        // out of the system's buffers.
        stream.stream().set_zero_linger()?;
        Ok(Box::new(stream))
    }
}

/// Opens connections in spite of the budget, for a few bytes that must not wait until they may cross: [`bill`] counts them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OnAccount;

#[async_trait]
impl Dial for OnAccount {
    async fn dial(&self, host: &str, port: u16) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        stream.set_zero_linger()?;
        Ok(Box::new(stream))
    }
}

/// Counts what has crossed on account, as soon as that much may cross. Must be called within a runtime.
pub(crate) fn bill(budget: &Budget, bytes: u64) {
    let mut owed = budget.shape(join(empty(), sink()), Class::Requests);
    tokio::spawn(async move {
        // Nothing of it crosses: it is only counted, in its turn.
        if let Err(error) = copy(&mut repeat(0).take(bytes), &mut owed).await {
            tracing::debug!(%error, "what crossed on account is not counted");
        }
    });
}

/// A file of the link: in the directory that is set, or beside an embedded broker.
pub(crate) fn beside(settings: &Settings, file: &str) -> Option<PathBuf> {
    let beside = || directory(&settings.broker);
    Some(settings.state.clone().or_else(beside)?.join(file))
}

/// Whether what was spent, and which order to let bytes cross was the last, is forgotten when link ends: the edge's broker is no
/// file that something could be put beside.
pub(crate) fn forgets(settings: &Settings) -> bool {
    beside(settings, FILE).is_none()
}

/// The directory of a broker that is embedded.
pub(crate) fn directory(broker: &broker::Settings) -> Option<PathBuf> {
    let file = broker.url.strip_prefix("sqlite://")?;
    Some(PathBuf::from(file).parent()?.to_owned())
}

/// Opens the site's budget. Must be called within a runtime.
pub(crate) fn open(settings: &Settings) -> anyhow::Result<Budget> {
    let budget = settings.budget.clone();
    let Some(path) = beside(settings, FILE) else {
        tracing::info!(
            "link.state is not set: what was spent is forgotten when link ends, and nothing of it can be limited"
        );
        return Ok(Budget::detached(budget)?);
    };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    Ok(Budget::open(budget, &path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_crossed_on_account_is_counted_when_it_may_cross() {
        let mut settings = common::budget::Settings {
            per_day: Some("10KB".parse().unwrap()),
            ..common::budget::Settings::default()
        };
        let budget = Budget::detached(settings.clone()).unwrap();
        let spent = |budget: &Budget| -> u64 { budget.status().day.bytes };
        bill(&budget, 10_000);
        let limit = std::time::Duration::from_secs(10);
        testkit::eventually(limit, || async {
            budget.admits(Class::Requests).err().ok_or("not spent yet")
        })
        .await;
        let before = spent(&budget);
        bill(&budget, 3_000);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        assert_eq!(spent(&budget), before);
        settings.per_day = None;
        budget.set(settings).unwrap();
        testkit::eventually(limit, || async {
            let spent = spent(&budget);
            (spent == 13_000).then_some(()).ok_or_else(|| format!("{spent}"))
        })
        .await;
    }

    #[test]
    fn what_was_spent_is_kept_where_it_is_told_or_beside_an_embedded_broker() {
        let mut settings = Settings::default();
        settings.broker.url = "kafka://edge:9092".into();
        assert_eq!(beside(&settings, FILE), None);
        assert!(forgets(&settings));
        settings.broker.url = "sqlite:///var/lib/fieldline/broker.db".into();
        assert_eq!(
            beside(&settings, FILE),
            Some("/var/lib/fieldline/link-budget.json".into())
        );
        settings.state = Some("/elsewhere".into());
        assert_eq!(
            beside(&settings, FILE),
            Some("/elsewhere/link-budget.json".into())
        );
    }
}
