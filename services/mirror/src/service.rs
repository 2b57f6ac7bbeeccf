//! Mirror, wired.

use std::sync::Mutex;

use anyhow::Context;
use common::broker::Broker;
use common::chassis::{ByteSize, Host, Service, Stop};
use common::control::Control;
use common::schemas::EDGE_TABLES;
use common::table::Session;
use common::telemetry::chain;
use common::volume::Volume;
use tokio::sync::OnceCell;

use crate::arrival::Book;
use crate::depot::Depot;
use crate::door::Door;
use crate::pace::Pace;
use crate::pass::Worker;
use crate::room::Room;
use crate::settings::Settings;
use crate::transfer::Copier;

/// Copies requested assets through the depot into the edge's volume, when told to.
#[derive(Debug)]
pub struct Mirror {
    worker: Worker,
}

impl Service for Mirror {
    const NAME: &'static str = "mirror";
    type Settings = Settings;

    async fn build(settings: Settings, host: &Host) -> anyhow::Result<Self> {
        // Files that cannot be used are refused now; whether the depot is there is seen when there is work.
        Depot::open(&settings).context("cannot set up TLS")?;
        let broker = Broker::open(&settings.broker, Self::NAME, host.registry()).await?;
        let table = Session::open(&settings.table, Self::NAME, host.registry()).await?;
        table.prepare(EDGE_TABLES).await?;
        let volume = Volume::open(&settings.volume).await?;
        let (asked, looked, seen) = (broker.clone(), table.clone(), volume.clone());
        host.check("broker", move || {
            let broker = asked.clone();
            async move { broker.ping().await.map_err(|error| chain(&error)) }
        });
        host.check("table", move || {
            let table = looked.clone();
            async move { table.ping().await.map_err(|error| chain(&error)) }
        });
        host.check("volume", move || {
            let volume = seen.clone();
            async move { volume.ping().await.map_err(|error| chain(&error)) }
        });
        let control = Control::attach_paused(host, &broker).await?;
        let cap = settings.bytes_per_second.map(ByteSize::bytes);
        if let Some(quota) = settings.quota {
            // So that the site's page can say how full the volume is.
            #[expect(clippy::cast_precision_loss, reason = "no disk has 2^53 bytes")]
            control.gauge("quota_bytes", quota.bytes() as f64);
        }
        // So that the site's page can say that files are outside of the link's budget.
        control.gauge("door", f64::from(u8::from(settings.door.is_some())));
        let worker = Worker {
            book: Book::new(table, broker.producer()?),
            copier: Copier {
                volume,
                control: control.clone(),
                pace: Pace::new(cap),
                request_bytes: Copier::request_bytes(settings.request_bytes.bytes(), cap),
                room: Room::new(settings.quota.map(ByteSize::bytes)),
                kin: OnceCell::new(),
                unfinished: Mutex::default(),
                begun: Mutex::default(),
            },
            door: settings.door.map(Door::at),
            settings,
            broker,
            control,
        };
        Ok(Self { worker })
    }

    async fn run(self, stop: Stop) -> anyhow::Result<()> {
        let worker = &self.worker;
        worker
            .control
            .supervise(stop, |stop| async move { worker.obey(&stop).await })
            .await
    }
}
