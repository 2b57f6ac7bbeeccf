//! The handle that a service holds.

use std::borrow::Cow;
use std::sync::Arc;

use broker::{Broker, Outgoing};
use chassis::{Host, now_ms};
use schemas::{Desired, ServiceControl, ServiceSetting, ServiceStatus, topic};
use tokio::sync::watch;

use crate::board::Board;
use crate::error::{Error, Result};
use crate::follow::Follower;
use crate::told::{Settings, Told, finished_key, setting_key};
use crate::{logs, report};

/// A service's line to its site; clones are the same.
#[derive(Debug, Clone)]
pub struct Control {
    pub(crate) told: Arc<watch::Sender<Told>>,
    set: Arc<watch::Sender<Settings>>,
    pub(crate) board: Arc<Board>,
}

impl Control {
    /// Reads what the service should do, then follows that and reports until the host ends. A service that nobody has
    /// told anything runs. Waits as long as the broker is away or the topics are not made.
    pub async fn attach(host: &Host, broker: &Broker) -> Result<Self> {
        Self::connect(host, broker, Desired::Running).await
    }

    /// Like [`Control::attach`], for a service that works only when it was told to.
    pub async fn attach_paused(host: &Host, broker: &Broker) -> Result<Self> {
        Self::connect(host, broker, Desired::Paused).await
    }

    async fn connect(host: &Host, broker: &Broker, untold: Desired) -> Result<Self> {
        let control = Self::new(host.clone(), untold);
        let (told, set) = (Arc::clone(&control.told), Arc::clone(&control.set));
        let follower = Follower::start(host, broker, told, set, untold).await?;
        let read = |source| Error::Read {
            service: host.service().into(),
            source,
        };
        let producer = broker.producer().map_err(read)?;
        host.spawn("control", follower.run());
        host.spawn("logs", logs::run(host.clone(), producer));
        host.spawn(
            "status",
            report::run(host.clone(), broker.clone(), Arc::clone(&control.board)),
        );
        Ok(control)
    }

    fn new(host: Host, desired: Desired) -> Self {
        Self {
            told: Arc::new(watch::Sender::new(Told::never(desired))),
            set: Arc::default(),
            board: Arc::new(Board::new(host)),
        }
    }

    /// A handle with no broker behind it, told to run, for tests of what holds one.
    pub fn detached() -> Self {
        let host = Host::detached("test", "test");
        host.ready();
        Self::new(host, Desired::Running)
    }

    /// What the service should do, by which command, and the changes of both.
    pub fn told(&self) -> watch::Receiver<Told> {
        self.told.subscribe()
    }

    /// What is set for the service while it runs, and the changes of that.
    pub fn settings(&self) -> watch::Receiver<Settings> {
        self.set.subscribe()
    }

    /// Changes what the service should do in this process only, until the next command comes.
    pub fn command(&self, desired: Desired) {
        self.told.send_modify(|told| told.desired = desired);
    }

    /// What is reported of the service now.
    pub fn status(&self) -> ServiceStatus {
        self.board.status()
    }

    /// Says that the work goes on.
    pub fn running(&self) {
        self.board.running();
    }

    /// Says that the work could go on but for `why`.
    pub fn waiting(&self, why: impl Into<String>) {
        self.board.waiting(why.into());
    }

    /// Says something that stands in every status, whatever the state.
    pub fn remark(&self, text: Option<String>) {
        self.board.remark(text);
    }

    /// Notes the newest error.
    pub fn error(&self, text: impl Into<String>) {
        self.board.error(text.into());
    }

    /// Adds to a total.
    pub fn count(&self, name: &'static str, more: i64) {
        self.board.count(name, more);
    }

    /// Sets a figure of this moment.
    pub fn gauge(&self, name: impl Into<Cow<'static, str>>, value: f64) {
        self.board.gauge(name.into(), value);
    }

    /// Has what was set or counted reported at once, and not with the next report.
    pub fn tell(&self) {
        self.board.changed();
    }

    /// Takes figures back that mean nothing any more: those that `keep` does not want.
    pub fn retain_gauges(&self, keep: impl Fn(&str) -> bool) {
        self.board.retain_gauges(keep);
    }
}

/// Tells a service of this site what to do; its log level goes back to what its settings say.
pub async fn ask(broker: &Broker, service: &str, desired: Desired, asked_by: Option<&str>) -> Result<()> {
    let order_of = ServiceControl {
        service: service.into(),
        desired,
        log_level: None,
        asked_by: asked_by.map(Into::into),
        asked_at: now_ms(),
    };
    order(broker, &order_of).await
}

/// Says that the command which a service was given at `asked_at` is done: the service need not run for it any more.
///
/// It is said under a key of its own, so it can never take the place of a command that was given in the meantime.
pub async fn finished(broker: &Broker, service: &str, asked_at: i64) -> Result<()> {
    let done = ServiceControl {
        service: service.into(),
        desired: Desired::Paused,
        log_level: None,
        asked_by: Some(service.into()),
        asked_at,
    };
    tell(broker, &finished_key(service), &done).await
}

/// Tells a service of this site what to do and what to log.
pub async fn order(broker: &Broker, order: &ServiceControl) -> Result<()> {
    tell(broker, &order.service, order).await
}

/// Sets something for a service of this site above its configuration, as JSON; without a value it is as configured again.
pub async fn set(
    broker: &Broker,
    service: &str,
    key: &str,
    value: Option<String>,
    asked_by: Option<&str>,
) -> Result<()> {
    let setting = |value| ServiceSetting {
        service: service.into(),
        key: key.into(),
        value,
        asked_by: asked_by.map(Into::into),
        asked_at: now_ms(),
    };
    let value = value.map(setting).as_ref().map(schemas::encode).transpose();
    let value = value.map_err(|source| Error::Encode {
        service: service.into(),
        source,
    })?;
    let mut record = Outgoing::new(topic::SERVICE_CONTROL, setting_key(service, key), Vec::new());
    record.value = value.map(Into::into);
    send(broker, service, record).await
}

async fn tell(broker: &Broker, key: &str, order: &ServiceControl) -> Result<()> {
    let value = schemas::encode(order).map_err(|source| Error::Encode {
        service: order.service.clone(),
        source,
    })?;
    let record = Outgoing::new(topic::SERVICE_CONTROL, key, value);
    send(broker, &order.service, record).await
}

async fn send(broker: &Broker, service: &str, record: Outgoing) -> Result<()> {
    let sent = async { broker.producer()?.send(record).await };
    sent.await.map_err(|source| Error::Ask {
        service: service.into(),
        source,
    })?;
    Ok(())
}
