//! Reading the site's commands: to the end once, then as they come.

use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, Class, Classify, Position, Reader, Record};
use chassis::{Host, Stop};
use schemas::{Desired, ServiceControl, ServiceSetting, topic};
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::told::{Settings, Told, setting, subject};

const RECORDS: usize = 100;
const WAIT: Duration = Duration::from_secs(30);
pub(crate) const PAUSE: Duration = Duration::from_secs(1);
/// More things than any service lets be set.
const MAX_SETTINGS: usize = 200;
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Reads commands and passes on those for one service.
pub(crate) struct Follower {
    host: Host,
    broker: Broker,
    told: Arc<watch::Sender<Told>>,
    set: Arc<watch::Sender<Settings>>,
    untold: Desired,
    settings: Settings,
    order: Option<ServiceControl>,
    finished: Option<i64>,
    level: Option<String>,
    reader: Reader,
}

impl Follower {
    /// Reads all commands that there are; tries again as long as that may help and the host goes on.
    pub(crate) async fn start(
        host: &Host,
        broker: &Broker,
        told: Arc<watch::Sender<Told>>,
        set: Arc<watch::Sender<Settings>>,
        untold: Desired,
    ) -> Result<Self> {
        let service = || host.service().to_owned();
        let stop = host.stop();
        let mut pause = PAUSE;
        loop {
            let attempt = async {
                let reader = open(broker).await?;
                let (host, broker) = (host.clone(), broker.clone());
                let (told, set) = (Arc::clone(&told), Arc::clone(&set));
                let mut follower = Self {
                    host,
                    broker,
                    told,
                    set,
                    untold,
                    settings: Settings::new(),
                    order: None,
                    finished: None,
                    level: None,
                    reader,
                };
                follower.catch_up().await?;
                Ok(follower)
            };
            let error: broker::Error = match stop.run_until_cancelled(attempt).await {
                None => return Err(Error::Stopped { service: service() }),
                Some(Ok(follower)) => return Ok(follower),
                Some(Err(error)) => error,
            };
            if error.class() != Class::Retry {
                return Err(Error::Read {
                    service: service(),
                    source: error,
                });
            }
            tracing::warn!(
                error = telemetry::chain(&error),
                "commands cannot be read yet; is the site initialised?"
            );
            if !rest(&stop, &mut pause).await {
                return Err(Error::Stopped { service: service() });
            }
        }
    }

    /// Reads up to where the topic ends now; only the newest command has an effect.
    async fn catch_up(&mut self) -> broker::Result<()> {
        (self.order, self.finished) = (None, None);
        self.settings.clear();
        let name = topic::SERVICE_CONTROL;
        for partition in 0..partitions(&self.broker).await? {
            let high = self.broker.watermarks(name, partition).await?;
            if high.high <= high.low {
                continue;
            }
            while self
                .reader
                .position(name, partition)
                .is_none_or(|next| next < high.high)
            {
                for record in self.reader.next(RECORDS, PAUSE).await? {
                    self.hear(&record);
                }
            }
        }
        self.apply();
        Ok(())
    }

    /// Follows until the host is told to stop. A broker that is away is waited for.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        let stop = self.host.stop();
        let mut pause = PAUSE;
        while let Some(read) = stop.run_until_cancelled(self.reader.next(RECORDS, WAIT)).await {
            let error = match read {
                Ok(records) => {
                    pause = PAUSE;
                    for record in &records {
                        if self.hear(record) {
                            self.apply();
                        }
                    }
                    continue;
                }
                Err(error) => error,
            };
            tracing::warn!(
                error = telemetry::chain(&error),
                "commands cannot be read; trying again"
            );
            if !rest(&stop, &mut pause).await {
                break;
            }
            // From the start again: the topic is compacted, and its offsets may be others after a mishap.
            let again = async {
                self.reader = open(&self.broker).await?;
                self.catch_up().await
            };
            if let Some(Err(error)) = stop.run_until_cancelled(again).await {
                tracing::debug!(error = telemetry::chain(&error), "commands still cannot be read");
            }
        }
        Ok(())
    }

    /// Takes in a record; whether it was for this service. A record without a value takes an earlier one back.
    fn hear(&mut self, record: &Record) -> bool {
        let key = record
            .key
            .as_deref()
            .and_then(|key| std::str::from_utf8(key).ok());
        if let Some((service, key)) = key.and_then(setting) {
            return service == self.host.service() && self.hear_setting(key, record);
        }
        let Some((service, finished)) = key.map(subject) else {
            return false;
        };
        if service != self.host.service() {
            return false;
        }
        let control = match record.value.as_deref().map(schemas::decode::<ServiceControl>) {
            Some(Err(error)) => {
                tracing::warn!(
                    error = telemetry::chain(&error),
                    offset = record.offset,
                    "unreadable command skipped"
                );
                return false;
            }
            Some(Ok(control)) => Some(control),
            None => None,
        };
        if finished {
            self.finished = control.map(|control| control.asked_at);
        } else {
            self.order = control;
        }
        true
    }

    fn hear_setting(&mut self, key: &str, record: &Record) -> bool {
        match record.value.as_deref().map(schemas::decode::<ServiceSetting>) {
            None => self.settings.remove(key).is_some(),
            Some(Ok(setting)) if self.settings.len() < MAX_SETTINGS || self.settings.contains_key(key) => {
                self.settings.insert(key.to_owned(), setting);
                true
            }
            Some(Ok(_)) => {
                tracing::warn!(key, "more is set than can be remembered; this is left out");
                false
            }
            Some(Err(error)) => {
                tracing::warn!(
                    error = telemetry::chain(&error),
                    offset = record.offset,
                    "unreadable setting skipped"
                );
                false
            }
        }
    }

    fn apply(&mut self) {
        self.set.send_if_modified(|current| {
            let change = *current != self.settings;
            if change {
                current.clone_from(&self.settings);
            }
            change
        });
        let told = match &self.order {
            Some(order) => Told::by(order, self.finished),
            None => Told::never(self.untold),
        };
        let order = self.order.as_ref();
        let level = order.and_then(|order| order.log_level.clone());
        let asked_by = order.and_then(|order| order.asked_by.clone());
        if self.level != level {
            let (site, service) = (self.host.site(), self.host.service());
            match self
                .host
                .telemetry()
                .set_service_level(site, service, level.as_deref())
            {
                Ok(()) => tracing::info!(
                    level = level.as_deref().unwrap_or("as configured"),
                    "log level set"
                ),
                Err(error) => tracing::warn!(%error, "log level not set"),
            }
            self.level = level;
        }
        self.told.send_if_modified(|current| {
            let change = *current != told;
            if current.desired != told.desired {
                tracing::info!(desired = ?told.desired, asked_by, "told what to do");
            }
            *current = told;
            change
        });
    }
}

async fn partitions(broker: &Broker) -> broker::Result<i32> {
    let name = topic::SERVICE_CONTROL;
    let description = broker.describe(name).await?;
    description
        .map(|topic| topic.partitions)
        .ok_or_else(|| broker::Error::UnknownTopic { topic: name.into() })
}

async fn open(broker: &Broker) -> broker::Result<Reader> {
    let positions: Vec<Position> = (0..partitions(broker).await?)
        .map(|partition| Position::beginning(topic::SERVICE_CONTROL, partition))
        .collect();
    broker.reader(&positions).await
}

/// Waits, longer each time; false when told to stop.
pub(crate) async fn rest(stop: &Stop, pause: &mut Duration) -> bool {
    let went_on = stop
        .run_until_cancelled(tokio::time::sleep(*pause))
        .await
        .is_some();
    *pause = (*pause * 2).min(LONGEST_PAUSE);
    went_on
}
