//! What a service would otherwise keep in globals: its name and site, metrics, tasks, checks, and its stop.

use std::any::Any;
use std::collections::HashMap;
use std::fmt::{self, Debug, Formatter};
use std::future::Future;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use telemetry::Telemetry;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{Instrument, Span};

use crate::health::Checks;
use crate::{HostSettings, Stop};

/// Where a service is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostState {
    /// Connecting.
    Starting,
    /// At work.
    Running,
    /// Told to stop, finishing what it holds.
    Draining,
    /// Ended as it was asked to.
    Stopped,
    /// Ended by an error, which [`Host::failure`] tells.
    Failed,
}

/// The surroundings of one service at one site; clones are the same.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    service: String,
    instance: String,
    settings: HostSettings,
    registry: prometheus::Registry,
    telemetry: Telemetry,
    span: Span,
    started_at: i64,
    stop: Stop,
    state: watch::Sender<HostState>,
    checks: Checks,
    tasks: Mutex<JoinSet<()>>,
    failure: Mutex<Option<String>>,
    fenced: AtomicBool,
    admin: OnceLock<SocketAddr>,
}

impl Host {
    /// Makes the host of `service`; cancelling `stop` stops it, and a failed task cancels `stop`.
    pub fn new(service: &str, settings: HostSettings, telemetry: Telemetry, stop: Stop) -> Self {
        let labels = [("site", settings.site.as_str()), ("service", service)];
        let labels: HashMap<String, String> = labels
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Self(Arc::new(Inner {
            service: service.into(),
            instance: settings.instance(),
            // Refused only for an empty prefix, and there is no prefix.
            registry: prometheus::Registry::new_custom(None, Some(labels)).unwrap_or_default(),
            telemetry,
            span: telemetry::service_span(&settings.site, service),
            started_at: now_ms(),
            stop,
            state: watch::Sender::new(HostState::Starting),
            checks: Checks::default(),
            tasks: Mutex::default(),
            failure: Mutex::default(),
            fenced: AtomicBool::new(false),
            admin: OnceLock::new(),
            settings,
        }))
    }

    /// A host that nothing listens to, for tests of what needs one.
    pub fn detached(service: &str, site: &str) -> Self {
        let settings = HostSettings {
            site: site.into(),
            instance: Some("test".into()),
            ..HostSettings::default()
        };
        Self::new(service, settings, Telemetry::detached(), Stop::new())
    }

    /// The site the service works at.
    pub fn site(&self) -> &str {
        &self.0.settings.site
    }

    /// The service's name.
    pub fn service(&self) -> &str {
        &self.0.service
    }

    /// What tells this instance from others of the service at the site.
    pub fn instance(&self) -> &str {
        &self.0.instance
    }

    /// The release that runs.
    pub fn version(&self) -> &'static str {
        crate::VERSION
    }

    /// Where the service's metrics are registered; each gets the labels `site` and `service`.
    pub fn registry(&self) -> &prometheus::Registry {
        &self.0.registry
    }

    /// The process's telemetry.
    pub fn telemetry(&self) -> &Telemetry {
        &self.0.telemetry
    }

    /// Sets what this service logs; `None` is as it was configured.
    pub fn set_level(&self, level: Option<&str>) -> telemetry::Result<()> {
        let configured = Some(self.0.settings.log.level.as_str());
        let level = level.or_else(|| configured.filter(|level| *level != self.0.telemetry.process_level()));
        self.0
            .telemetry
            .set_service_level(self.site(), self.service(), level)
    }

    /// What the host was set to.
    pub fn settings(&self) -> &HostSettings {
        &self.0.settings
    }

    /// Cancelled when the service should stop.
    pub fn stop(&self) -> Stop {
        self.0.stop.clone()
    }

    /// When the host was made, in milliseconds since the Unix epoch.
    pub fn started_at(&self) -> i64 {
        self.0.started_at
    }

    /// The time, in milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        now_ms()
    }

    /// The span that gives log lines their site and service.
    pub fn span(&self) -> Span {
        self.0.span.clone()
    }

    /// Where the admin port listens, once it does.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.0.admin.get().copied()
    }

    /// The state and its changes.
    pub fn state(&self) -> watch::Receiver<HostState> {
        self.0.state.subscribe()
    }

    /// Why the service failed.
    pub fn failure(&self) -> Option<String> {
        lock(&self.0.failure).clone()
    }

    /// Says that the service is at work; the host does so itself once the service is built.
    pub fn ready(&self) {
        self.advance(HostState::Running);
    }

    /// Adds a check to `/readyz`: an error says what is away. A check that takes longer than 5 s has failed.
    pub fn check<F, R>(&self, name: &str, check: F)
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.0.checks.add(name, check);
    }

    /// Starts a task of the service. One that fails or panics stops the host; one that ends well just ends.
    ///
    /// Tasks are expected to end at [`Host::stop`]; those that do not are dropped when the grace time is over.
    pub fn spawn<F>(&self, name: &str, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        // The task holds the host, whose task set holds the task: ended by `finish`, which every run comes to.
        let (host, name) = (self.clone(), name.to_owned());
        let task = async move {
            if let Err(error) = caught(task).await {
                host.fail(&error.context(format!("task {name} failed")));
            }
        };
        let mut tasks = lock(&self.0.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task.instrument(self.span()));
    }

    pub(crate) fn checks(&self) -> &Checks {
        &self.0.checks
    }

    pub(crate) fn listens(&self, address: SocketAddr) {
        self.0.admin.get_or_init(|| address);
    }

    /// Moves on to a later state; an ended host stays as it ended.
    pub(crate) fn advance(&self, state: HostState) {
        self.0.state.send_if_modified(|current| {
            let ended = matches!(current, HostState::Stopped | HostState::Failed);
            let back = *current == HostState::Draining && state == HostState::Running;
            let change = !ended && !back && *current != state;
            if change {
                *current = state;
            }
            change
        });
    }

    /// Keeps the first failure and stops the host.
    pub(crate) fn fail(&self, error: &anyhow::Error) {
        let text = telemetry::chain(error.as_ref());
        tracing::error!(parent: &self.0.span, error = %text, "service failed");
        self.0
            .fenced
            .fetch_or(error.downcast_ref::<crate::Fenced>().is_some(), Ordering::Relaxed);
        lock(&self.0.failure).get_or_insert(text);
        self.0.stop.cancel();
    }

    pub(crate) fn fenced(&self) -> bool {
        self.0.fenced.load(Ordering::Relaxed)
    }

    /// Waits for the tasks, and drops those that are left when `limit` is over.
    pub(crate) async fn finish(&self, limit: Duration) {
        let mut tasks = std::mem::take(&mut *lock(&self.0.tasks));
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!(left = tasks.len(), "tasks dropped at the end of the grace time");
        }
        tasks.shutdown().await;
    }
}

impl Host {
    /// Drops the tasks at once: another host takes their place.
    pub(crate) async fn abandon(&self) {
        let mut tasks = std::mem::take(&mut *lock(&self.0.tasks));
        tasks.shutdown().await;
    }
}

impl Debug for Host {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let state = *self.0.state.borrow();
        f.debug_struct("Host")
            .field("site", &self.site())
            .field("service", &self.service())
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

/// Awaits a future and makes an error of its panic.
pub(crate) async fn caught<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    AssertUnwindSafe(future)
        .catch_unwind()
        .await
        .unwrap_or_else(|panic| Err(anyhow::anyhow!("panicked: {}", panic_text(panic.as_ref()))))
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no reason given")
}

/// The time, in milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
