//! All services of one or more sites in this process.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use common::chassis::{Config, Entry, Group, Stop};
use common::control::Enrolled;
use common::telemetry;

use crate::cli::Sites;
use crate::init;

/// Which services and tables a site has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Core,
    Edge,
}

impl Role {
    /// The services of a site, those first that others wait for.
    pub(crate) fn services(self) -> Vec<Entry> {
        match self {
            Self::Core => vec![
                Entry::of::<viewer::Viewer>(),
                Entry::of::<responder::Responder>(),
                Entry::of::<broadcaster::Broadcaster>(),
                Entry::of::<downloader::Downloader>(),
                Entry::of::<depot::Depot>(),
                Entry::of::<feed::Feed>(),
            ],
            Self::Edge => vec![
                Entry::of::<viewer::Viewer>(),
                Entry::of::<listener::Listener>(),
                Entry::of::<requester::Requester>(),
                Entry::of::<Enrolled<mirror::Mirror>>(),
                Entry::of::<Enrolled<link::Link>>(),
            ],
        }
    }
}

/// Reads the settings of every site that was named; the environment counts only where there is one site, since it
/// could not say which of several it means.
pub(crate) fn read(sites: &Sites) -> Result<Vec<(Role, Config)>> {
    let files: Vec<(Role, &Path)> = sites
        .cores
        .iter()
        .map(|file| (Role::Core, file.as_path()))
        .chain(sites.edges.iter().map(|file| (Role::Edge, file.as_path())))
        .collect();
    ensure!(
        !files.is_empty(),
        "no site is named\nhint: give --core FILE or --edge FILE"
    );
    let alone = files.len() == 1;
    files
        .into_iter()
        .map(|(role, file)| {
            let environment = if alone {
                common::chassis::environment()
            } else {
                Vec::new()
            };
            let config = Config::read(Some(file), environment)
                .with_context(|| format!("cannot read the settings of {}", file.display()))?;
            Ok((role, init::with_token_file(config)?))
        })
        .collect()
}

/// Where link and mirror are one process they share the link's budget without being told how: by a door on loopback, unless
/// the settings say something of doors themselves.
fn joined(config: &Config) -> Result<Config> {
    let (link, mirror) = (config.load::<link::Link>()?, config.load::<mirror::Mirror>()?);
    let mut door = link.settings.door;
    if door.listen.is_some() || mirror.settings.door.is_some() {
        return Ok(config.clone());
    }
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let address = free.context("cannot find a free port for the link's door")?;
    if door.allow.is_empty() {
        // Without it, the enrolment says what the depot is.
        door.allow.extend(mirror.settings.depot_server());
    }
    let text = format!(
        "[link.door]\nlisten = \"{address}\"\nallow = {:?}\n[mirror]\ndoor = \"{address}\"\n",
        door.allow
    );
    Ok(config.clone().with(Config::parse(&text)?))
}

/// Starts every service of the sites in a group that starts failed ones again.
pub(crate) fn start(sites: &[(Role, Config)], telemetry: telemetry::Telemetry) -> Result<Group> {
    let mut group = Group::new(telemetry, Stop::new()).restarting();
    group.stop_on_signals().context("cannot listen for signals")?;
    for (role, config) in sites {
        for service in role.services() {
            service.check(config)?;
        }
    }
    for (role, config) in sites {
        let joined = match role {
            Role::Core => config.clone(),
            Role::Edge => joined(config)?,
        };
        for service in role.services() {
            group.start(&service, &joined)?;
        }
    }
    Ok(group)
}

/// Runs the sites until a signal. What an embedded engine needs is made first: nobody else can.
pub(crate) async fn run(sites: &Sites) -> Result<()> {
    let sites = read(sites)?;
    let first = init::host_settings(&sites[0].1)?;
    let telemetry = telemetry::init(&first.telemetry(), "fieldline").context("cannot set up logs")?;
    for (role, config) in &sites {
        if init::embedded(config)? {
            init::make(*role, config, &init::Shape::default()).await?;
        }
    }
    let mut group = start(&sites, telemetry.clone())?;
    for (_, config) in &sites {
        let host = init::host_settings(config)?;
        if let Some(address) = host.admin {
            group.listen(&host.site, address).await?;
        }
    }
    let ended = group.wait().await;
    telemetry.shutdown();
    ended
}
