//! What the site's services say of themselves and were told to do, followed from two compacted topics.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::broker::{self, Broker, Position, Record};
use common::chassis::now_ms;
use common::control::{self, Told, setting, subject};
use common::schemas::{self, Desired, ServiceControl, ServiceSetting, ServiceState, ServiceStatus, topic};

use crate::health;
use crate::pace::{Measured, Minute, Moved, Pace};
use crate::view::Service;

/// How long a service may say nothing before that is said of it: it speaks every five seconds, and its silence is to be
/// on the pages within ten.
const SILENT_MS: i64 = 8_500;
/// How long an instance that is gone is still shown; the newest of a stage always is.
const FORGET_MS: i64 = 24 * 3600 * 1000;
/// More instances than any site has; beyond it the one that spoke least recently is forgotten.
const MAX_INSTANCES: usize = 1000;

/// The newest word of and to each service.
#[derive(Debug, Default)]
pub(crate) struct Services {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    said: BTreeMap<String, Word>,
    told: BTreeMap<String, ServiceControl>,
    finished: BTreeMap<String, i64>,
    set: BTreeMap<String, control::Settings>,
    paces: BTreeMap<String, Pace>,
    letters: BTreeMap<String, i64>,
    moved: Moved,
}

/// What an instance said last.
#[derive(Debug)]
struct Word {
    status: ServiceStatus,
    /// When it was heard, by this process's clock: the instance's may be wrong. Of a word that was there before this process
    /// followed nobody knows; it counts as heard when it was spoken.
    heard_at: i64,
}

impl Known {
    /// Takes a word in; where there is no room for another instance, the one that was heard least recently goes.
    fn say(&mut self, key: String, word: Word) {
        if self.said.len() >= MAX_INSTANCES && !self.said.contains_key(&key) {
            let oldest = self.said.iter().min_by_key(|(_, word)| word.heard_at);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.forget(&oldest);
            }
        }
        let status = &word.status;
        self.paces.entry(key.clone()).or_default().hear(status);
        if status.service == "mirror" {
            let before = self.said.get(&key).map(|word| &word.status);
            self.moved.hear(before, status);
        }
        self.said.insert(key, word);
    }

    fn forget(&mut self, key: &str) {
        self.said.remove(key);
        self.paces.remove(key);
    }

    /// When the newest instance of each service was heard.
    fn newest(&self) -> BTreeMap<&str, i64> {
        let mut newest = BTreeMap::new();
        for Word { status, heard_at } in self.said.values() {
            let known = newest.entry(&*status.service).or_insert(*heard_at);
            *known = (*known).max(*heard_at);
        }
        newest
    }

    /// What a service should do, by the newest command to it.
    fn desired(&self, service: &str) -> Option<Desired> {
        let order = self.told.get(service)?;
        Some(Told::by(order, self.finished.get(service).copied()).desired)
    }
}

impl Services {
    /// Follows both topics, from their beginning on, until an error.
    pub(crate) async fn follow(&self, broker: &Broker) -> Result<(), broker::Error> {
        let (mut positions, mut ends) = (Vec::new(), BTreeMap::new());
        for name in [topic::SERVICE_STATUS, topic::SERVICE_CONTROL] {
            let unknown = || broker::Error::UnknownTopic { topic: name.into() };
            let partitions = broker.describe(name).await?.ok_or_else(unknown)?.partitions;
            for partition in 0..partitions {
                positions.push(Position::beginning(name, partition));
                let end = broker.watermarks(name, partition).await?.high;
                ends.insert((name, partition), end);
            }
        }
        let mut reader = broker.reader(&positions).await?;
        loop {
            for record in reader.next(500, Duration::from_secs(10)).await? {
                let end = ends.get(&(&*record.topic, record.partition));
                self.hear(&record, end.is_none_or(|end| record.offset >= *end), now_ms());
            }
        }
    }

    /// Takes a record in that came `just_now`, or was there before.
    fn hear(&self, record: &Record, just_now: bool, now: i64) {
        let key = record
            .key
            .as_deref()
            .map(|key| String::from_utf8_lossy(key).into_owned())
            .unwrap_or_default();
        let mut known = self.known();
        if *record.topic == *topic::SERVICE_STATUS {
            let status = record
                .value
                .as_deref()
                .and_then(|value| schemas::decode::<ServiceStatus>(value).ok());
            match status {
                Some(status) => {
                    let heard_at = if just_now {
                        now
                    } else {
                        status.reported_at.min(now)
                    };
                    known.say(key, Word { status, heard_at });
                }
                None => known.forget(&key),
            }
        } else if let Some((service, key)) = setting(&key) {
            let found = record.value.as_deref();
            let found = found.and_then(|value| schemas::decode::<ServiceSetting>(value).ok());
            let known = &mut known.set;
            if known.len() < MAX_INSTANCES || known.contains_key(service) {
                let set = known.entry(service.to_owned()).or_default();
                match found {
                    Some(found) if set.len() < MAX_INSTANCES => drop(set.insert(key.to_owned(), found)),
                    _ => drop(set.remove(key)),
                }
            }
        } else {
            let order = record
                .value
                .as_deref()
                .and_then(|value| schemas::decode::<ServiceControl>(value).ok());
            match (subject(&key), order) {
                ((service, true), Some(done)) => drop(known.finished.insert(service.into(), done.asked_at)),
                ((service, true), None) => drop(known.finished.remove(service)),
                ((service, false), Some(order)) => drop(known.told.insert(service.into(), order)),
                ((service, false), None) => drop(known.told.remove(service)),
            }
        }
    }

    /// What was asked of a service last.
    pub(crate) fn told(&self, service: &str) -> Option<ServiceControl> {
        self.known().told.get(service).cloned()
    }

    /// What is set for a service above its settings file.
    pub(crate) fn set(&self, service: &str) -> control::Settings {
        self.known().set.get(service).cloned().unwrap_or_default()
    }

    /// What a service should do.
    pub(crate) fn desired(&self, service: &str) -> Option<Desired> {
        self.known().desired(service)
    }

    /// All instances, or those of one service.
    pub(crate) fn list(&self, service: Option<&str>, now: i64) -> Vec<Service> {
        let known = self.known();
        let known = &*known;
        let newest = known.newest();
        let shown = |Word { status, heard_at }: &Word| {
            let last = health::is_stage(&status.service) && newest.get(&*status.service) == Some(heard_at);
            service.is_none_or(|service| service == status.service) && (last || now - heard_at < FORGET_MS)
        };
        let all = known.said.iter().filter(|(_, word)| shown(word));
        all.map(|(key, word)| {
            let status = &word.status;
            let mut view = view(word, known.desired(&status.service), now);
            let told = known.told.get(&status.service);
            view.log_level = told.and_then(|told| told.log_level.clone());
            // Finer than this is no news.
            let rate = known.paces.get(key).and_then(|pace| pace.rate(now));
            view.rate = rate.map(|rate| (rate * 10.0).round() / 10.0);
            view.dead_letters = known.letters.get(&status.service).copied().unwrap_or_default();
            view
        })
        .collect()
    }

    /// Counts a dead letter, or with -1 one less.
    pub(crate) fn letter(&self, service: &str, more: i64) {
        let mut known = self.known();
        if known.letters.len() < MAX_INSTANCES || known.letters.contains_key(service) {
            let count = known.letters.entry(service.to_owned()).or_default();
            *count = (*count + more).max(0);
        }
    }

    /// The mirror's rate while it moved bytes, over the last hour of that.
    pub(crate) fn moved(&self) -> Option<Measured> {
        self.known().moved.measured()
    }

    /// The minutes in which the mirror moved bytes after a time, as far as this process heard.
    pub(crate) fn moved_since(&self, at: i64) -> Vec<Minute> {
        self.known().moved.since(at)
    }

    /// Takes in what an earlier process noted of that.
    pub(crate) fn remember(&self, minute: Minute) {
        self.known().moved.remember(minute);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn view(word: &Word, told: Option<Desired>, now: i64) -> Service {
    let Word { status, heard_at } = word;
    let reported = state(status.state);
    let ended = matches!(status.state, ServiceState::Stopped | ServiceState::Failed);
    let silent = !ended && now - heard_at > SILENT_MS;
    Service {
        service: status.service.clone(),
        instance: status.instance.clone(),
        state: if silent { "silent" } else { reported },
        reported_state: reported,
        detail: status.detail.clone(),
        last_error: status.last_error.clone(),
        last_error_at: status.last_error_at,
        started_at: status.started_at,
        reported_at: status.reported_at,
        version: status.version.clone(),
        counters: status.counters.clone(),
        gauges: status.gauges.clone(),
        desired: told.map(desired),
        log_level: None,
        rate: None,
        lag: lag(&status.gauges),
        dead_letters: 0,
        uptime_s: (!ended && !silent).then(|| (now - status.started_at).max(0) / 1000),
    }
}

/// The sum of what a service says it is behind.
fn lag(gauges: &BTreeMap<String, f64>) -> Option<f64> {
    let lags: Vec<f64> = gauges
        .iter()
        .filter(|(name, _)| name.starts_with("lag"))
        .map(|(_, lag)| *lag)
        .collect();
    (!lags.is_empty()).then(|| lags.iter().sum())
}

/// The state in the words of its schema.
fn state(state: ServiceState) -> &'static str {
    match state {
        ServiceState::Starting => "starting",
        ServiceState::Running => "running",
        ServiceState::Waiting => "waiting",
        ServiceState::Paused => "paused",
        ServiceState::Draining => "draining",
        ServiceState::Stopped => "stopped",
        ServiceState::Failed => "failed",
    }
}

/// What a service should do, in the words of its schema.
pub(crate) fn desired(desired: Desired) -> &'static str {
    match desired {
        Desired::Running => "running",
        Desired::Paused => "paused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn status() -> ServiceStatus {
        ServiceStatus {
            service: "feed".into(),
            instance: "one".into(),
            state: ServiceState::Running,
            detail: None,
            last_error: None,
            last_error_at: None,
            started_at: 0,
            reported_at: 1000,
            version: "1".into(),
            counters: BTreeMap::new(),
            gauges: BTreeMap::new(),
        }
    }

    #[test]
    fn a_service_that_says_nothing_is_silent_but_one_that_ended_is_not() {
        let status = status();
        // Its own clock is wrong by hours.
        let word = |status, heard_at| Word { status, heard_at };
        let at = |state, heard_at| {
            let status = ServiceStatus {
                state,
                ..status.clone()
            };
            view(&word(status, 1_000), None, heard_at)
        };
        assert_eq!(at(ServiceState::Running, 9_000).state, "running");
        let silent = at(ServiceState::Running, 9_600);
        assert_eq!((silent.state, silent.reported_state), ("silent", "running"));
        assert_eq!(at(ServiceState::Stopped, 12_000).state, "stopped");
    }

    fn said(services: &Services, service: &str, instance: &str, reported_at: i64, just_now: Option<i64>) {
        let status = ServiceStatus {
            service: service.into(),
            instance: instance.into(),
            reported_at,
            ..status()
        };
        let record = Record {
            topic: topic::SERVICE_STATUS.into(),
            partition: 0,
            offset: 0,
            timestamp: 0,
            key: Some(format!("{service}/{instance}").into()),
            value: Some(schemas::encode(&status).unwrap().into()),
            headers: Vec::new(),
        };
        services.hear(&record, just_now.is_some(), just_now.unwrap_or(NOW));
    }

    #[test]
    fn a_word_counts_from_when_it_was_heard_and_an_old_one_from_when_it_was_spoken() {
        let services = Services::default();
        said(&services, "feed", "slow clock", NOW - 3_600_000, Some(NOW));
        said(&services, "mirror", "gone", NOW - 60_000, None);
        said(&services, "link", "fast clock", NOW + 3_600_000, None);
        let at = |now| services.list(None, now).into_iter().map(|service| service.state);
        assert_eq!(
            at(NOW + 1_000).collect::<Vec<_>>(),
            ["running", "running", "silent"]
        );
        assert!(at(NOW + 9_000).all(|state| state == "silent"));
    }

    #[test]
    fn instances_that_are_gone_are_forgotten_but_for_the_last_of_a_stage() {
        let services = Services::default();
        for (instance, reported_at) in [("first", 1_000), ("second", 2_000)] {
            said(&services, "feed", instance, reported_at, Some(reported_at));
        }
        let left = services.list(None, NOW);
        assert_eq!((left.len(), &*left[0].instance), (1, "second"));
        for number in 0..MAX_INSTANCES {
            said(&services, "link", &number.to_string(), NOW, Some(NOW));
        }
        said(&services, "link", "newest", NOW, Some(NOW + 1));
        let all = services.list(None, NOW + 1);
        assert_eq!(all.len(), MAX_INSTANCES);
        assert!(all.iter().any(|service| service.instance == "newest"));
    }
}
