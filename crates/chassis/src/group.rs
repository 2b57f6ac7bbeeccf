//! Many services of many sites in one process, each with a host of its own.

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Formatter};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::RngExt;
use telemetry::Telemetry;
use tokio::task::JoinSet;

use crate::host::lock;
use crate::run::{End, run};
use crate::{Config, Host, HostState, Invalid, Service, Settings, Stop, admin, cli};

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A service that lasted so long starts again without the pauses that earlier failures earned.
const LASTED: Duration = Duration::from_secs(60);

type Run = Pin<Box<dyn Future<Output = End> + Send>>;
type Prepared = Box<dyn Fn(Telemetry, Stop) -> (Host, Run) + Send + Sync>;

/// A service without its type, so that a program can hold a list of them.
#[derive(Clone, Copy)]
pub struct Entry {
    name: &'static str,
    prepare: fn(&Config) -> Result<(String, Prepared), Invalid>,
}

impl Entry {
    /// The entry of a service.
    pub fn of<S: Service>() -> Self
    where
        S::Settings: Clone + Sync,
    {
        Self {
            name: S::NAME,
            prepare: prepare::<S>,
        }
    }

    /// The service's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the service's settings can work.
    pub fn check(&self, config: &Config) -> Result<(), Invalid> {
        (self.prepare)(config).map(drop)
    }
}

impl Debug for Entry {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Entry").field(&self.name).finish()
    }
}

fn prepare<S: Service>(config: &Config) -> Result<(String, Prepared), Invalid>
where
    S::Settings: Settings + Clone + Sync,
{
    let mut loaded = config.load::<S>()?;
    // One process has one set of logs, and its admin ports would collide.
    loaded.host.admin = None;
    let site = loaded.host.site.clone();
    let prepared = move |telemetry: Telemetry, stop: Stop| {
        let host = Host::new(S::NAME, loaded.host.clone(), telemetry, stop);
        (host.clone(), Box::pin(run::<S>(host, loaded.clone())) as Run)
    };
    Ok((site, Box::new(prepared)))
}

/// How one service of the group is.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its newest host.
    pub host: Host,
    /// How often it was started again.
    pub restarts: u64,
    /// Why it last failed.
    pub last_failure: Option<String>,
}

type Members = Arc<Mutex<BTreeMap<(String, &'static str), Member>>>;

/// Services that run in this process and stop together.
///
/// Without restarts the first failure stops them all; with them a failed service starts again after a growing pause,
/// except one that another instance has fenced.
#[derive(Debug)]
pub struct Group {
    telemetry: Telemetry,
    stop: Stop,
    restart: bool,
    members: Members,
    tasks: JoinSet<Option<String>>,
    /// Admin ports, which end with the group.
    ports: JoinSet<()>,
}

impl Group {
    /// A group that stops with `stop`.
    pub fn new(telemetry: Telemetry, stop: Stop) -> Self {
        cli::provide_tls();
        Self {
            telemetry,
            stop,
            restart: false,
            members: Members::default(),
            tasks: JoinSet::new(),
            ports: JoinSet::new(),
        }
    }

    /// Starts failed services again.
    #[must_use]
    pub fn restarting(mut self) -> Self {
        self.restart = true;
        self
    }

    /// Stops the group at SIGTERM or SIGINT; a second one ends the process at once.
    pub fn stop_on_signals(&self) -> std::io::Result<()> {
        cli::stop_on_signals(self.stop.clone())
    }

    /// Starts a service with its settings out of `config`, whose `common.site` is its site.
    pub fn start(&mut self, entry: &Entry, config: &Config) -> Result<(), Invalid> {
        let (site, prepared) = (entry.prepare)(config)?;
        let keeper = Keeper {
            key: (site, entry.name),
            prepared,
            telemetry: self.telemetry.clone(),
            stop: self.stop.clone(),
            restart: self.restart,
            members: Arc::clone(&self.members),
        };
        let first = keeper.make(0, None);
        self.tasks.spawn(keeper.keep(first));
        Ok(())
    }

    /// Opens the admin port of a site for its services in this group; it closes when the group has ended.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn listen(&mut self, site: &str, address: SocketAddr) -> anyhow::Result<SocketAddr> {
        let (members, site) = (self.view(), site.to_owned());
        let hosts = move || {
            let of_site = members().into_iter().map(|member| member.host);
            of_site.filter(|host| host.site() == site).collect()
        };
        let (address, serve) = admin::start_for_all(address, Arc::new(hosts)).await?;
        self.ports.spawn(async move {
            if let Err(error) = serve.await {
                tracing::error!(%address, %error, "admin port failed");
            }
        });
        Ok(address)
    }

    /// All services, as they are now.
    pub fn members(&self) -> Vec<Member> {
        lock(&self.members).values().cloned().collect()
    }

    /// A handle that shows the members to those who do not own the group.
    pub fn view(&self) -> impl Fn() -> Vec<Member> + Clone + Send + Sync + 'static {
        let members = Arc::clone(&self.members);
        move || lock(&members).values().cloned().collect()
    }

    /// The metrics of all services as one page.
    pub fn metrics(&self) -> prometheus::Result<String> {
        let members = self.members();
        telemetry::metrics::text(members.iter().map(|member| member.host.registry()))
    }

    /// Waits until every service is at work; gives up with the names of those that are not.
    pub async fn ready(&self, limit: Duration) -> anyhow::Result<()> {
        let running = |member: &Member| *member.host.state().borrow() == HostState::Running;
        let end = tokio::time::Instant::now() + limit;
        loop {
            let members = self.members();
            let Some(late) = members.iter().find(|member| !running(member)) else {
                return Ok(());
            };
            let mut state = late.host.state();
            let change = tokio::time::timeout(Duration::from_millis(200), state.changed());
            // Whatever changed, or nothing at all: the loop looks again.
            drop(change.await);
            if tokio::time::Instant::now() >= end {
                let why = late
                    .last_failure
                    .clone()
                    .or_else(|| late.host.failure())
                    .unwrap_or_default();
                anyhow::bail!(
                    "{} at {} is not ready: {why}",
                    late.host.service(),
                    late.host.site()
                );
            }
        }
    }

    /// Waits until all have ended; the error is the first failure that was not mended by a restart.
    pub async fn wait(mut self) -> anyhow::Result<()> {
        let mut first = None;
        while let Some(ended) = self.tasks.join_next().await {
            let failure = ended.unwrap_or_else(|error| Some(error.to_string()));
            if failure.is_some() && !self.restart {
                self.stop.cancel();
            }
            first = first.or(failure);
        }
        first.map_or(Ok(()), |text| Err(anyhow::anyhow!(text)))
    }
}

/// Keeps one service of a group running.
struct Keeper {
    key: (String, &'static str),
    prepared: Prepared,
    telemetry: Telemetry,
    stop: Stop,
    restart: bool,
    members: Members,
}

impl Keeper {
    fn make(&self, restarts: u64, last_failure: Option<String>) -> Run {
        let (host, run) = (self.prepared)(self.telemetry.clone(), self.stop.child_token());
        if let Err(error) = host.set_level(None) {
            tracing::warn!(%error, "log level not set");
        }
        lock(&self.members).insert(
            self.key.clone(),
            Member {
                host,
                restarts,
                last_failure,
            },
        );
        run
    }

    async fn keep(self, first: Run) -> Option<String> {
        let mut run = first;
        let mut pause = FIRST_PAUSE;
        let mut restarts = 0;
        loop {
            let started = Instant::now();
            let failure = match run.await {
                End::Clean => return None,
                End::Again => {
                    run = self.make(restarts, None);
                    continue;
                }
                End::Fenced(failure) => return Some(self.name(&failure)),
                End::Failed(failure) => failure,
            };
            if !self.restart || self.stop.is_cancelled() {
                return Some(self.name(&failure));
            }
            if started.elapsed() >= LASTED {
                pause = FIRST_PAUSE;
            }
            let wait = pause.mul_f64(rand::rng().random_range(0.5..1.0));
            let (site, service) = &self.key;
            tracing::warn!(%site, %service, ?wait, "service starts again after a pause");
            if self
                .stop
                .run_until_cancelled(tokio::time::sleep(wait))
                .await
                .is_none()
            {
                return Some(self.name(&failure));
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            restarts += 1;
            run = self.make(restarts, Some(failure));
        }
    }

    fn name(&self, failure: &str) -> String {
        format!("{} at {}: {failure}", self.key.1, self.key.0)
    }
}
