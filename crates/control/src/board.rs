//! How the service is, as its own code last said.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chassis::{Host, HostState};
use schemas::{ServiceState, ServiceStatus};
use tokio::sync::watch;

/// What the work says of itself.
#[derive(Debug, Clone, Default, PartialEq)]
enum Work {
    #[default]
    Running,
    Waiting(String),
    Draining,
    Paused,
}

#[derive(Debug, Default)]
struct Notes {
    work: Work,
    remark: Option<String>,
    last_error: Option<(String, i64)>,
    counters: BTreeMap<&'static str, i64>,
    gauges: BTreeMap<Cow<'static, str>, f64>,
}

/// The notes, and a signal for each change that is worth a report at once.
#[derive(Debug)]
pub(crate) struct Board {
    host: Host,
    notes: Mutex<Notes>,
    changes: watch::Sender<u64>,
}

impl Board {
    pub(crate) fn new(host: Host) -> Self {
        Self {
            host,
            notes: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn running(&self) {
        self.work(Work::Running);
    }

    pub(crate) fn waiting(&self, why: String) {
        self.work(Work::Waiting(why));
    }

    pub(crate) fn draining(&self) {
        self.work(Work::Draining);
    }

    pub(crate) fn paused(&self) {
        self.work(Work::Paused);
    }

    fn work(&self, work: Work) {
        let mut notes = self.notes();
        if notes.work != work {
            notes.work = work;
            drop(notes);
            self.changed();
        }
    }

    pub(crate) fn remark(&self, text: Option<String>) {
        let mut notes = self.notes();
        if notes.remark != text {
            notes.remark = text;
            drop(notes);
            self.changed();
        }
    }

    pub(crate) fn error(&self, text: String) {
        self.notes().last_error = Some((text, self.host.now_ms()));
        self.changed();
    }

    pub(crate) fn count(&self, name: &'static str, more: i64) {
        let mut notes = self.notes();
        let counter = notes.counters.entry(name).or_default();
        *counter = counter.saturating_add(more);
    }

    pub(crate) fn gauge(&self, name: Cow<'static, str>, value: f64) {
        self.notes().gauges.insert(name, value);
    }

    pub(crate) fn retain_gauges(&self, keep: impl Fn(&str) -> bool) {
        self.notes().gauges.retain(|name, _| keep(name));
    }

    /// Has a report follow at once.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record that tells all this.
    pub(crate) fn status(&self) -> ServiceStatus {
        let host = &self.host;
        let life = *host.state().borrow();
        let notes = self.notes();
        let (state, detail) = match (life, &notes.work) {
            (HostState::Starting, _) => (ServiceState::Starting, None),
            (HostState::Draining, _) | (HostState::Running, Work::Draining) => (ServiceState::Draining, None),
            (HostState::Stopped, _) => (ServiceState::Stopped, None),
            (HostState::Failed, _) => (ServiceState::Failed, host.failure()),
            (HostState::Running, Work::Running) => (ServiceState::Running, None),
            (HostState::Running, Work::Waiting(why)) => (ServiceState::Waiting, Some(why.clone())),
            (HostState::Running, Work::Paused) => (ServiceState::Paused, None),
        };
        let detail = match (detail, notes.remark.clone()) {
            (Some(detail), Some(remark)) => Some(format!("{detail}; {remark}")),
            (detail, remark) => detail.or(remark),
        };
        let reported_at = host.now_ms();
        let last_error = match (host.failure(), &notes.last_error) {
            (Some(failure), _) => Some((failure, reported_at)),
            (None, noted) => noted.clone(),
        };
        let (last_error, last_error_at) = last_error.unzip();
        ServiceStatus {
            service: host.service().into(),
            instance: host.instance().into(),
            state,
            detail,
            last_error,
            last_error_at,
            started_at: host.started_at(),
            reported_at,
            version: host.version().into(),
            counters: notes
                .counters
                .iter()
                .map(|(name, value)| ((*name).to_owned(), *value))
                .collect(),
            gauges: notes
                .gauges
                .iter()
                .map(|(name, value)| (name.clone().into_owned(), *value))
                .collect(),
        }
    }
}
