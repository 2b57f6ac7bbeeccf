//! Reading the site's commands: to the end once, then as they come.

use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, Class, Classify, Position, Reader, Record};
use chassis::{Host, Stop};
use schemas::{Desired, ServiceControl, topic};
use tokio::sync::watch;

use crate::error::{Error, Result};

const RECORDS: usize = 100;
const WAIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Reads commands and passes on those for one service.
pub(crate) struct Follower {
    host: Host,
    broker: Broker,
    desired: Arc<watch::Sender<Desired>>,
    untold: Desired,
    level: Option<String>,
    reader: Reader,
}

impl Follower {
    /// Reads all commands that there are; tries again as long as that may help and the host goes on.
    pub(crate) async fn start(
        host: &Host,
        broker: &Broker,
        desired: Arc<watch::Sender<Desired>>,
        untold: Desired,
    ) -> Result<Self> {
        let service = || host.service().to_owned();
        let stop = host.stop();
        let mut pause = PAUSE;
        loop {
            let attempt = async {
                let reader = open(broker).await?;
                let (host, broker, desired) = (host.clone(), broker.clone(), Arc::clone(&desired));
                let mut follower = Self {
                    host,
                    broker,
                    desired,
                    untold,
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
        let mut newest = None;
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
                    if let Some(told) = self.mine(&record) {
                        newest = Some(told);
                    }
                }
            }
        }
        self.apply(newest.flatten());
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
                    for told in records
                        .iter()
                        .filter_map(|record| self.mine(record))
                        .collect::<Vec<_>>()
                    {
                        self.apply(told);
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

    /// The command in a record, if it is for this service; the inner none takes an earlier one back.
    fn mine(&self, record: &Record) -> Option<Option<ServiceControl>> {
        if record.key.as_deref() != Some(self.host.service().as_bytes()) {
            return None;
        }
        let Some(value) = &record.value else {
            return Some(None);
        };
        match schemas::decode::<ServiceControl>(value) {
            Ok(control) => Some(Some(control)),
            Err(error) => {
                tracing::warn!(
                    error = telemetry::chain(&error),
                    offset = record.offset,
                    "unreadable command skipped"
                );
                None
            }
        }
    }

    fn apply(&mut self, control: Option<ServiceControl>) {
        let desired = control.as_ref().map_or(self.untold, |control| control.desired);
        let level = control.as_ref().and_then(|control| control.log_level.clone());
        let asked_by = control.and_then(|control| control.asked_by);
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
        self.desired.send_if_modified(|current| {
            let change = *current != desired;
            if change {
                tracing::info!(?desired, asked_by, "told what to do");
                *current = desired;
            }
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
async fn rest(stop: &Stop, pause: &mut Duration) -> bool {
    let went_on = stop
        .run_until_cancelled(tokio::time::sleep(*pause))
        .await
        .is_some();
    *pause = (*pause * 2).min(LONGEST_PAUSE);
    went_on
}
