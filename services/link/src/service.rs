//! The service: one instance of an edge's link works, a second waits and says so.
//!
//! The lease is a group membership at the edge's own broker and only keeps instances from hindering each other; what
//! must not happen twice is kept by the transactional ids, which fence.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Duration;

use anyhow::Context;
use common::broker::{Broker, Lease, TopicSpec};
use common::chassis::{self, Host, Stop};
use common::control::Control;
use common::kafka::Tcp;
use common::schemas::{SiteId, at_core, topic};
use common::telemetry;

use crate::backoff::Backoff;
use crate::carrier::{Carrier, Fenced};
use crate::report::Report;
use crate::routes::{Direction, Lane, expand};
use crate::settings::Settings;
use crate::wire::{Wire, cluster};

/// How long a lease may take before it is said that another instance has it.
const PATIENCE: Duration = Duration::from_secs(2);

/// The link of an edge.
#[derive(Debug, Clone)]
pub struct Link {
    site: SiteId,
    own: Broker,
    core: Broker,
    /// Down and up, when both brokers are Kafka.
    wires: Option<[Wire; 2]>,
    lanes: Vec<Lane>,
    settings: Arc<Settings>,
    control: Control,
    report: Arc<Report>,
}

impl chassis::Service for Link {
    const NAME: &'static str = "link";
    type Settings = Settings;

    async fn build(settings: Settings, host: &Host) -> anyhow::Result<Self> {
        let site: SiteId = host.site().parse()?;
        let lanes =
            expand(&site, &settings.routes()).map_err(|problems| anyhow::anyhow!(problems.join("; ")))?;
        let own = Broker::open(&settings.broker, Self::NAME, host.registry())
            .await
            .context("this edge's broker")?;
        // Metrics of the other broker would have the same names, so they are kept apart and not shown.
        let apart = Default::default();
        let core = Broker::open(&settings.core, Self::NAME, &apart)
            .await
            .context("the core's broker")?;
        let wires = wires(&settings);
        let control = Control::attach(host, &own).await?;
        let ping = own.clone();
        host.check("broker", move || {
            let broker = ping.clone();
            async move { broker.ping().await.map_err(|error| telemetry::chain(&error)) }
        });
        let report = Arc::new(Report::new(control.clone()));
        Ok(Self {
            site,
            own,
            core,
            wires,
            lanes,
            settings: Arc::new(settings),
            control,
            report,
        })
    }

    async fn run(self, stop: Stop) -> anyhow::Result<()> {
        let control = self.control.clone();
        control.supervise(stop, |stop| self.clone().work(stop)).await
    }
}

impl Link {
    async fn work(self, stop: Stop) -> anyhow::Result<()> {
        let mut backoff = Backoff::new(*self.settings.backoff, *self.settings.max_backoff);
        while !stop.is_cancelled() {
            let worked = tokio::select! {
                () = stop.cancelled() => break,
                lease = self.lease() => match lease {
                    Ok(lease) => self.hold(lease, &stop).await,
                    Err(error) => {
                        let text = telemetry::chain(&error);
                        tracing::warn!(error = %text, "lease cannot be asked for");
                        self.control.waiting(text);
                        Err(Fenced)
                    }
                },
            };
            let pause = match worked {
                Ok(()) => {
                    backoff.reset();
                    Duration::ZERO
                }
                Err(Fenced) => backoff.pause(),
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        Ok(())
    }

    async fn lease(&self) -> Result<Lease, common::broker::Error> {
        let checkpoints = at_core(&self.site, topic::CHECKPOINTS);
        if self.own.describe(&checkpoints).await?.is_none() {
            self.own
                .create_topic(&TopicSpec::new(&checkpoints, 1).compacted())
                .await?;
        }
        let lease = self
            .own
            .lease(&checkpoints, &format!("{}.link", self.site))
            .await?;
        if tokio::time::timeout(PATIENCE, lease.acquired()).await.is_err() {
            tracing::info!("another instance is at work");
            self.control
                .waiting("another instance of link is at work at this site");
            lease.acquired().await;
        }
        Ok(lease)
    }

    /// Carries both ways while the lease is held.
    async fn hold(&self, lease: Lease, stop: &Stop) -> Result<(), Fenced> {
        tracing::info!("lease acquired");
        self.control.running();
        let (down, up) = (self.carrier(Direction::Down), self.carrier(Direction::Up));
        let ended = tokio::select! {
            ended = async { tokio::try_join!(down.run(stop), up.run(stop)) } => ended.map(|_| ()),
            () = lease.lost() => {
                // What was in hand is dropped, which the protocol allows at any point.
                tracing::warn!("lease lost");
                Ok(())
            }
        };
        lease.release().await;
        ended
    }

    fn carrier(&self, direction: Direction) -> Carrier {
        let (source, destination) = match direction {
            Direction::Down => (self.core.clone(), self.own.clone()),
            Direction::Up => (self.own.clone(), self.core.clone()),
        };
        let wire = self.wires.as_ref().map(|[down, up]| match direction {
            Direction::Down => down.clone(),
            Direction::Up => up.clone(),
        });
        Carrier {
            site: self.site.clone(),
            direction,
            source,
            destination,
            checkpoints: at_core(&self.site, topic::CHECKPOINTS),
            wire,
            pace: AtomicUsize::new(usize::MAX),
            again: AtomicU64::new(0),
            lanes: self
                .lanes
                .iter()
                .filter(|lane| lane.direction == direction)
                .cloned()
                .collect(),
            settings: self.settings.clone(),
            report: self.report.clone(),
        }
    }
}

/// Both directions' clusters, each direction with connections of its own. None when one of the brokers is no Kafka.
fn wires(settings: &Settings) -> Option<[Wire; 2]> {
    let wire = |source, destination| {
        Some(Wire {
            source: cluster(source, Arc::new(Tcp))?,
            destination: cluster(destination, Arc::new(Tcp))?,
        })
    };
    let (own, core) = (&settings.broker, &settings.core);
    let down = wire(core, own).filter(|_| settings.whole_batches)?;
    Some([down, wire(own, core)?])
}
