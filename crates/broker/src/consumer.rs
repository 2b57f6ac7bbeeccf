//! The one consumer loop: what a service configures, and what it is promised.
//!
//! Handlers run concurrently up to a bound and in order per key. The lowest offset whose effect is not durable is
//! committed, after the effect: a crash repeats work but never loses it. Polling never waits for a handler.

mod attempt;
mod lanes;
mod run;
mod tracker;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::broker::Broker;
use crate::engine::Membership;
use crate::error::{Error, Result};
use crate::handler::{Class, Classify, Handler};

/// What a consumer reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscription {
    /// Topics by name.
    pub topics: Vec<String>,
    /// Topics by the end of their name (`.ASSET_REQUEST`); new ones are found within ten seconds.
    pub suffixes: Vec<String>,
}

impl Subscription {
    /// These topics.
    pub fn topics<T: Into<String>>(topics: impl IntoIterator<Item = T>) -> Self {
        Self {
            topics: topics.into_iter().map(Into::into).collect(),
            suffixes: Vec::new(),
        }
    }

    /// The topics whose names end so.
    pub fn suffixes<T: Into<String>>(suffixes: impl IntoIterator<Item = T>) -> Self {
        Self {
            topics: Vec::new(),
            suffixes: suffixes.into_iter().map(Into::into).collect(),
        }
    }

    /// Whether a topic belongs to it.
    pub fn matches(&self, topic: &str) -> bool {
        self.topics.iter().any(|name| name == topic)
            || self
                .suffixes
                .iter()
                .any(|suffix| topic.len() > suffix.len() && topic.ends_with(suffix.as_str()))
    }
}

/// Where a partition starts that the group has not committed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartWithout {
    /// With the first record that is there.
    #[default]
    Beginning,
    /// After the last one.
    End,
}

/// How a consumer works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerSettings {
    /// The group, `<site>.<service>`.
    pub group: String,
    /// Who this member is across restarts; none is a new member each time.
    pub instance: Option<String>,
    /// How many handlers run at once.
    pub in_flight: usize,
    /// Where a partition without a commit starts.
    pub from: StartWithout,
    /// How long handlers may go on when a partition is taken away or the service stops; then they are dropped, and
    /// their records come again.
    pub drain: Duration,
}

impl ConsumerSettings {
    /// The defaults for a group.
    pub fn group(group: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            instance: None,
            in_flight: 64,
            from: StartWithout::Beginning,
            drain: Duration::from_secs(15),
        }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        if self.group.is_empty() || self.in_flight == 0 {
            return Err(Error::Settings(
                "a consumer needs a group, and one record in flight".into(),
            ));
        }
        Ok(())
    }
}

/// A member of a consumer group, not yet running.
#[derive(Debug)]
pub struct Consumer {
    broker: Broker,
    subscription: Subscription,
    settings: ConsumerSettings,
}

impl Consumer {
    pub(crate) fn new(broker: Broker, subscription: Subscription, settings: ConsumerSettings) -> Self {
        Self {
            broker,
            subscription,
            settings,
        }
    }

    /// Works until `stop`, then drains, commits and leaves. Ends early only with an error: a handler said `Fatal` or
    /// panicked, or a partition's position is not there any more.
    pub async fn run(self, handler: Arc<impl Handler>, stop: CancellationToken) -> Result<()> {
        let Self {
            broker,
            subscription,
            settings,
        } = self;
        let membership = Membership {
            group: settings.group.clone(),
            instance: settings.instance.clone(),
            subscription,
            from: settings.from,
            fetch: true,
            session_timeout: None,
        };
        let mut backoff = Backoff::default();
        let member = loop {
            match broker.engine().join(membership.clone()).await {
                Ok(member) => break member,
                Err(error) if error.class() == Class::Retry => {
                    let pause = backoff.next();
                    tracing::warn!(group = settings.group, %error, ?pause, "cannot join");
                    tokio::select! {
                        () = stop.cancelled() => return Ok(()),
                        () = tokio::time::sleep(pause) => {}
                    }
                }
                Err(error) => return Err(error),
            }
        };
        run::Run::new(broker, member, settings, handler).run(stop).await
    }
}
