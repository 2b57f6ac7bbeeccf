//! What can be set for a link.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use common::broker;
use common::budget::{self, door};
use common::chassis::{self, ByteSize, Span, prefixed};

use crate::line;
use crate::routes::{Route, builtin, fit};

/// The settings of a link.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// This edge's own broker.
    pub broker: broker::Settings,
    /// The core's broker; without one, the site's enrolment says where it is.
    pub core: broker::Settings,
    /// The file of the site's enrolment, usually in `[common]`; it counts where `core` names no broker.
    pub enrolment: Option<PathBuf>,
    /// What may cross, how fast and when.
    pub budget: budget::Settings,
    /// Where other services of this host come to the link, and what they can reach through it.
    pub door: door::Settings,
    /// The directory in which it is kept what was spent; beside the broker's file when that is embedded, and else nowhere: then
    /// a day's or a month's bytes cannot be limited.
    pub state: Option<PathBuf>,
    /// Routes beside those that every edge has.
    pub extra_routes: Vec<Route>,
    /// The names of routes that carry nothing until they are told to.
    pub paused: Vec<String>,
    /// Whether record batches are carried as they are where both brokers are Kafka; else each record is read and sent.
    pub whole_batches: bool,
    /// How many records of a partition may wait at a connect and still go in order on a route with `live_first`.
    pub backlog_after: usize,
    /// The most records in one transaction; whole batches heed bytes alone.
    pub max_records: usize,
    /// The most bytes in one transaction; a single larger record still goes.
    pub max_bytes: ByteSize,
    /// How long a poll waits for the first record.
    pub poll: Span,
    /// How long a batch waits for more records after its first.
    pub linger: Span,
    /// How often topics, lag and the other side's answer are looked at.
    pub refresh: Span,
    /// How long a topic that link creates at the edge keeps records: longer than the longest outage.
    pub retention: Span,
    /// The first pause after an error; it doubles with each error in a row.
    pub backoff: Span,
    /// The longest pause after an error.
    pub max_backoff: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            broker: broker::Settings::default(),
            core: broker::Settings::default(),
            enrolment: None,
            budget: budget::Settings::default(),
            door: door::Settings::default(),
            state: None,
            extra_routes: Vec::new(),
            paused: Vec::new(),
            whole_batches: true,
            backlog_after: 100,
            max_records: 1000,
            max_bytes: ByteSize::kib(512),
            poll: Span::seconds(1),
            linger: Span::millis(20),
            refresh: Span::seconds(10),
            retention: Span::seconds(30 * 24 * 3600),
            backoff: Span::millis(200),
            max_backoff: Span::seconds(5),
        }
    }
}

impl Settings {
    /// All routes: every edge's and the extra ones.
    pub fn routes(&self) -> Vec<Route> {
        [builtin(), self.extra_routes.clone()].concat()
    }
}

impl Settings {
    /// Whether each record is read and sent, by librdkafka: then one carrier, and so one transactional id, has all classes.
    pub fn by_records(&self) -> bool {
        let told =
            |broker: &broker::Settings| broker.url.starts_with("kafka:") && !broker.librdkafka.is_empty();
        !self.whole_batches || told(&self.core) || told(&self.broker)
    }

    /// Whether what crosses to and from the core is not counted, and so held to no cap and no byte budget: librdkafka's
    /// connections are its own.
    pub(crate) fn uncounted(&self) -> bool {
        self.core.url.starts_with("kafka:") && self.by_records()
    }
}

impl chassis::Settings for Settings {
    fn validate(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        let enrolled = self.enrolment.is_some() && self.core.url.is_empty();
        let core = (!enrolled).then_some(("core", &self.core));
        for (key, broker) in [("broker", &self.broker)].into_iter().chain(core) {
            let found = broker.validate().err().unwrap_or_default();
            problems.extend(found.into_iter().map(|problem| format!("{key}.{problem}")));
        }
        if !self.broker.url.is_empty() && self.broker.url == self.core.url {
            problems.push("core.url: is this edge's own broker; name the core's".into());
        }
        if self.max_records == 0 || self.max_bytes.bytes() == 0 {
            problems.push("max_records, max_bytes: must not be zero".into());
        }
        if self.poll.is_zero() || self.refresh.is_zero() || self.backoff.is_zero() {
            problems.push("poll, refresh, backoff: must not be zero".into());
        }
        if self.max_backoff < self.backoff {
            problems.push("max_backoff: must not be shorter than backoff".into());
        }
        let budget = &self.budget;
        if line::forgets(self) && (budget.metered || budget.per_day.is_some() || budget.per_month.is_some()) {
            problems.push(
                "state: name a directory: what was spent of budget.per_day and per_month, and allowed where it is metered, \
                 would be forgotten when link ends"
                    .into(),
            );
        }
        problems.extend(prefixed("budget", self.budget.validate()));
        problems.extend(prefixed("door", self.door.validate()));
        let routes = self.routes();
        for name in &self.paused {
            if !routes.iter().any(|route| route.name == *name) {
                problems.push(format!("paused: there is no route {name}"));
            }
        }
        let found = fit(&routes).err().unwrap_or_default();
        problems.extend(
            found
                .into_iter()
                .map(|problem| format!("extra_routes: {problem}")),
        );
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }
}

#[cfg(test)]
mod tests {
    use common::chassis::Settings as _;

    use super::*;

    #[test]
    fn what_librdkafka_carries_is_not_counted() {
        let mut settings = Settings::default();
        settings.core.url = "kafka://core:9092".into();
        assert!(!settings.uncounted());
        settings.whole_batches = false;
        assert!(settings.uncounted());
        settings.whole_batches = true;
        settings.broker.url = "kafka://edge:9092".into();
        let set = ("client.id".to_owned(), "x".to_owned());
        settings.broker.librdkafka.extend([set]);
        assert!(settings.uncounted());
        settings.core.url = "sqlite:///tmp/core.db".into();
        assert!(!settings.uncounted(), "nothing crosses a line");
    }

    #[test]
    fn limits_that_a_restart_would_take_back_are_refused() {
        let mut settings = Settings::default();
        settings.broker.url = "kafka://edge:9092".into();
        settings.core.url = "kafka://core:9092".into();
        settings.budget.cap = Some("32KB".parse().unwrap());
        assert_eq!(settings.validate(), Ok(()));
        for (key, value) in [
            ("per_day", "5MB".into()),
            ("per_month", "1GB".into()),
            ("metered", true.into()),
        ] {
            let value: serde_json::Value = value;
            let limited = Settings {
                budget: settings.budget.with(key, value).unwrap(),
                ..settings.clone()
            };
            let problems = limited.validate().unwrap_err();
            assert!(
                problems.len() == 1 && problems[0].starts_with("state: "),
                "{problems:?}"
            );
            let kept = Settings {
                state: Some("/var/lib/fieldline/link".into()),
                ..limited.clone()
            };
            assert_eq!(kept.validate(), Ok(()));
            let mut embedded = limited;
            embedded.broker.url = "sqlite:///var/lib/fieldline/broker.db".into();
            assert_eq!(embedded.validate(), Ok(()));
        }
    }

    #[test]
    fn both_brokers_must_be_named_and_differ() {
        let mut settings = Settings::default();
        assert!(settings.validate().is_err());
        settings.broker.url = "sqlite:///tmp/edge.db".into();
        settings.core.url = "sqlite:///tmp/core.db".into();
        assert_eq!(settings.validate(), Ok(()));
        settings.core.url = String::new();
        settings.enrolment = Some("/etc/fieldline/site.enrolment".into());
        assert_eq!(settings.validate(), Ok(()));
        settings.core.url = settings.broker.url.clone();
        settings.budget.share = 0;
        settings.door.allow = vec!["depot".into()];
        settings.paused = vec!["nothing".into()];
        let problems = settings.validate().unwrap_err();
        for (problem, part) in problems
            .iter()
            .zip(["own broker", "budget.share", "door.allow", "paused"])
        {
            assert!(problem.contains(part), "{problem}");
        }
    }
}
