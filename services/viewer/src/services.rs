//! What the site's services say of themselves and were told to do, followed from two compacted topics.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::broker::{self, Broker, Position, Record};
use common::control::{self, Told, setting, subject};
use common::schemas::{self, Desired, ServiceControl, ServiceSetting, ServiceState, ServiceStatus, topic};

use crate::pace::{Measured, Minute, Moved, Pace};
use crate::view::Service;

/// How long a service may say nothing before that is said of it: it speaks every five seconds, and its silence is to be
/// on the pages within ten.
const SILENT_MS: i64 = 8_500;
/// How long an instance that is gone is still shown.
const FORGET_MS: i64 = 24 * 3600 * 1000;
/// More instances than any site has; beyond it none is added.
const MAX_INSTANCES: usize = 1000;

/// The newest word of and to each service.
#[derive(Debug, Default)]
pub(crate) struct Services {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    said: BTreeMap<String, ServiceStatus>,
    told: BTreeMap<String, ServiceControl>,
    finished: BTreeMap<String, i64>,
    set: BTreeMap<String, control::Settings>,
    paces: BTreeMap<String, Pace>,
    letters: BTreeMap<String, i64>,
    moved: Moved,
}

impl Known {
    /// What a service should do, by the newest command to it.
    fn desired(&self, service: &str) -> Option<Desired> {
        let order = self.told.get(service)?;
        Some(Told::by(order, self.finished.get(service).copied()).desired)
    }
}

impl Services {
    /// Follows both topics, from their beginning on, until an error.
    pub(crate) async fn follow(&self, broker: &Broker) -> Result<(), broker::Error> {
        let mut positions = Vec::new();
        for name in [topic::SERVICE_STATUS, topic::SERVICE_CONTROL] {
            let unknown = || broker::Error::UnknownTopic { topic: name.into() };
            let partitions = broker.describe(name).await?.ok_or_else(unknown)?.partitions;
            positions.extend((0..partitions).map(|partition| Position::beginning(name, partition)));
        }
        let mut reader = broker.reader(&positions).await?;
        loop {
            for record in reader.next(500, Duration::from_secs(10)).await? {
                self.hear(&record);
            }
        }
    }

    fn hear(&self, record: &Record) {
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
                Some(status) if known.said.len() < MAX_INSTANCES || known.said.contains_key(&key) => {
                    known.paces.entry(key.clone()).or_default().hear(&status);
                    if status.service == "mirror" {
                        let before = known.said.get(&key).cloned();
                        known.moved.hear(before.as_ref(), &status);
                    }
                    known.said.insert(key, status);
                }
                Some(_) => {}
                None => {
                    known.said.remove(&key);
                    known.paces.remove(&key);
                }
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
        let shown = |status: &ServiceStatus| {
            service.is_none_or(|service| service == status.service) && now - status.reported_at < FORGET_MS
        };
        let known = &*known;
        let all = known.said.iter().filter(|(_, status)| shown(status));
        all.map(|(key, status)| {
            let mut view = view(status, known.desired(&status.service), now);
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

fn view(status: &ServiceStatus, told: Option<Desired>, now: i64) -> Service {
    let reported = state(status.state);
    let ended = matches!(status.state, ServiceState::Stopped | ServiceState::Failed);
    let silent = !ended && now - status.reported_at > SILENT_MS;
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

    #[test]
    fn a_service_that_says_nothing_is_silent_but_one_that_ended_is_not() {
        let status = ServiceStatus {
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
        };
        assert_eq!(view(&status, None, 9_000).state, "running");
        let silent = view(&status, None, 9_600);
        assert_eq!((silent.state, silent.reported_state), ("silent", "running"));
        let stopped = ServiceStatus {
            state: ServiceState::Stopped,
            ..status
        };
        assert_eq!(view(&stopped, None, 12_000).state, "stopped");
    }
}
