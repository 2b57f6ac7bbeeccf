//! Depot, wired.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use common::broker::Broker;
use common::chassis::{Host, Service, Stop};
use common::control::Control;
use common::schemas::CORE_TABLES;
use common::table::Session;
use common::telemetry;
use common::volume::Volume;
use tokio::net::TcpListener;

use crate::metrics::Metrics;
use crate::routes::{Desk, router};
use crate::serve::Server;
use crate::settings::Settings;
use crate::standing::Register;
use crate::sweep::Sweep;
use crate::tls::Certificates;

/// The core's door to its volume.
pub struct Depot {
    control: Control,
    server: Server,
    address: SocketAddr,
    /// Bound by `build`; bound again for every run after a pause.
    listener: Mutex<Option<TcpListener>>,
}

impl std::fmt::Debug for Depot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Depot")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Depot {
    /// Where it listens; of port 0, the port that it was given.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    async fn serve(&self, stop: Stop) -> anyhow::Result<()> {
        let bound = self
            .listener
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let listener = match bound {
            Some(listener) => listener,
            None => bind(self.address).await?,
        };
        tracing::info!(address = %self.address, "serves sites");
        self.server.clone().run(listener, stop).await;
        Ok(())
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))
}

impl Service for Depot {
    const NAME: &'static str = "depot";
    type Settings = Settings;

    async fn build(settings: Settings, host: &Host) -> anyhow::Result<Self> {
        let certificates = Certificates::load(&settings.tls).await?;
        let broker = Broker::open(&settings.broker, Self::NAME, host.registry()).await?;
        let table = Session::open(&settings.table, Self::NAME, host.registry()).await?;
        table.prepare(CORE_TABLES).await?;
        let volume = Volume::open(&settings.volume).await?;
        let (looked, held) = (table.clone(), volume.clone());
        host.check("table", move || {
            let table = looked.clone();
            async move { table.ping().await.map_err(|error| telemetry::chain(&error)) }
        });
        host.check("volume", move || {
            let volume = held.clone();
            async move { volume.ping().await.map_err(|error| telemetry::chain(&error)) }
        });
        let listener = bind(settings.listen).await?;
        let address = listener.local_addr().context("cannot tell where it listens")?;
        let control = Control::attach(host, &broker).await?;
        let metrics = Metrics::new(host.registry())?;
        let sweep = Sweep {
            register: Register::new(table.clone(), *settings.standing_max_age),
            broker: broker.clone(),
            table: table.clone(),
            volume: volume.clone(),
            control: control.clone(),
        };
        host.spawn("sweep", sweep.run(*settings.sweep, host.stop()));
        let desk = Desk {
            register: Register::new(table, *settings.standing_max_age),
            volume,
            metrics: metrics.clone(),
            requests_per_site: settings.requests_per_site,
            request_timeout: *settings.request_timeout,
            standing_max_age: *settings.standing_max_age,
            at_work: Mutex::default(),
        };
        let server = Server {
            router: router(Arc::new(desk)),
            certificates: certificates.current(),
            settings: Arc::new(settings.clone()),
            metrics,
        };
        host.spawn(
            "certificates",
            certificates.follow(*settings.tls_reload, control.clone(), host.stop()),
        );
        Ok(Self {
            control,
            server,
            address,
            listener: Mutex::new(Some(listener)),
        })
    }

    async fn run(self, stop: Stop) -> anyhow::Result<()> {
        self.control.supervise(stop, |stop| self.serve(stop)).await
    }
}
