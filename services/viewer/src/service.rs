//! Viewer, wired: the engines, what follows them, and the server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use common::broker::Broker;
use common::chassis::{self, Host, Stop};
use common::control::Control;
use common::schemas::{CORE_TABLES, EDGE_TABLES, SiteId};
use common::table::{self, Session};
use common::telemetry;
use common::volume::Volume;
use tokio::net::TcpListener;

use crate::app::{App, Kind};
use crate::index::Index;
use crate::services::Services;
use crate::settings::Settings;
use crate::sign_in::{Mode, SignIn};
use crate::{api, edge, events, headquarters, site_status};

/// How long a follower rests after an error.
const REST: Duration = Duration::from_secs(2);

/// A site's API.
#[derive(Debug)]
pub struct Viewer {
    app: Arc<App>,
    listener: TcpListener,
    host: Host,
    /// Keeps the report of the viewer's own state alive.
    _control: Control,
}

impl Viewer {
    /// Where the API listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl chassis::Service for Viewer {
    const NAME: &'static str = "viewer";
    type Settings = Settings;

    async fn build(settings: Settings, host: &Host) -> anyhow::Result<Self> {
        let site: SiteId = host.site().parse()?;
        if settings.sign_in == Mode::Off {
            tracing::warn!(listen = %settings.listen, "sign-in is off: whoever reaches this address is operator");
        }
        let sign_in = SignIn::open(&settings, &site)?;
        if settings.sign_in == Mode::Users && settings.token_file.is_none() {
            tracing::info!("no token_file is set: commands cannot add users, nor make one-time links");
        }
        let broker = Broker::open(&settings.broker, Self::NAME, host.registry()).await?;
        let table = Session::open(&settings.table, Self::NAME, host.registry()).await?;
        let kind = kind(&table).await?;
        let volume = Volume::open(&settings.volume).await?;
        let (asked, looked) = (broker.clone(), table.clone());
        host.check("broker", move || {
            let broker = asked.clone();
            async move { broker.ping().await.map_err(|error| telemetry::chain(&error)) }
        });
        host.check("table", move || {
            let table = looked.clone();
            async move { table.ping().await.map_err(|error| telemetry::chain(&error)) }
        });
        let control = Control::attach(host, &broker).await?;
        let listener = TcpListener::bind(settings.listen)
            .await
            .with_context(|| format!("cannot listen at {}; set viewer.listen", settings.listen))?;
        let app = Arc::new(App {
            site,
            kind,
            started_at: host.started_at(),
            broker,
            table,
            volume,
            index: Index::new(settings.max_assets),
            places: headquarters::Places::default(),
            previews: crate::previews::Previews::default(),
            services: Services::default(),
            logs: crate::logs::Logs::default(),
            history: crate::history::History::default(),
            hub: events::Hub::new(host.started_at()),
            lanes: events::Lanes::default(),
            requests: crate::requests::Requests::default(),
            followed: Default::default(),
            heard: crate::heard::Heard::default(),
            usage: events::Usage::default(),
            turns: Default::default(),
            ordered_at: Default::default(),
            asking: tokio::sync::Mutex::new(()),
            setting_up: Arc::default(),
            streams: Arc::new(tokio::sync::Semaphore::new(api::MAX_STREAMS)),
            stop: host.stop(),
            page: crate::page::Page::load(),
            sign_in,
            audited: Default::default(),
            letters: Default::default(),
            strangers: Default::default(),
            settings,
        });
        Ok(Self {
            app,
            listener,
            host: host.clone(),
            _control: control,
        })
    }

    async fn run(self, stop: Stop) -> anyhow::Result<()> {
        let address = self.address()?;
        tracing::info!(%address, kind = self.app.kind.as_str(), "API listens");
        for (name, what) in [
            ("services", Follow::Services),
            ("logs", Follow::Logs),
            ("assets", Follow::Assets),
        ] {
            self.host
                .spawn(name, follow(what, self.app.clone(), stop.clone()));
        }
        let (app, ended) = (self.app.clone(), stop.clone());
        self.host.spawn("events", async move {
            let _stopped: Option<()> = ended.run_until_cancelled(events::tell(&app)).await;
            Ok(())
        });
        if self.app.kind == Kind::Core {
            for (name, what) in [("requests", Follow::Requests), ("previews", Follow::Previews)] {
                self.host
                    .spawn(name, follow(what, self.app.clone(), stop.clone()));
            }
        }
        if self.app.kind == Kind::Edge {
            self.host
                .spawn("history", follow(Follow::History, self.app.clone(), stop.clone()));
            let (app, stop) = (self.app.clone(), stop.clone());
            self.host.spawn("site-status", async move {
                let _stopped: Option<()> = stop.run_until_cancelled(site_status::run(&app)).await;
                Ok(())
            });
        }
        let server = axum::serve(
            self.listener,
            api::router(&self.app).into_make_service_with_connect_info::<SocketAddr>(),
        );
        Ok(server
            .with_graceful_shutdown(async move { stop.cancelled().await })
            .await?)
    }
}

/// What is followed from the site's topics into memory.
#[derive(Debug, Clone, Copy)]
enum Follow {
    Services,
    Logs,
    Assets,
    /// At an edge: how the link was.
    History,
    /// At the core: what edges ask for, and what becomes of it.
    Requests,
    /// At the core: the small pictures.
    Previews,
}

impl Follow {
    async fn once(self, app: &App) -> anyhow::Result<()> {
        match (self, app.kind) {
            (Self::Services, _) => Ok(app.services.follow(&app.broker).await?),
            (Self::Logs, _) => Ok(crate::logs::follow(app).await?),
            (Self::History, _) => Ok(crate::history::follow(app).await?),
            (Self::Assets, Kind::Edge) => edge::follow(app).await,
            (Self::Assets, Kind::Core) => headquarters::follow(app).await,
            (Self::Previews, _) => Ok(crate::previews::follow(app).await?),
            (Self::Requests, _) => events::follow_requests(app).await,
        }
    }
}

/// Follows until the service stops; what fails starts over, for what is in memory is only a picture.
async fn follow(what: Follow, app: Arc<App>, stop: Stop) -> anyhow::Result<()> {
    let again = async {
        loop {
            if let Err(error) = what.once(&app).await {
                tracing::warn!(?what, error = %telemetry::chain(error.as_ref()), "following starts over");
            }
            tokio::time::sleep(REST).await;
        }
    };
    let _stopped: Option<()> = stop.run_until_cancelled(again).await;
    Ok(())
}

/// What the site's tables were made for.
async fn kind(table: &Session) -> anyhow::Result<Kind> {
    match table.prepare(EDGE_TABLES).await {
        Ok(()) => return Ok(Kind::Edge),
        Err(table::Error::NotMigrated { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    table
        .prepare(CORE_TABLES)
        .await
        .context("the site has the tables of neither an edge nor a core: run `fieldline init`")?;
    Ok(Kind::Core)
}
