//! A core and its edges in one process, on embedded engines, with nothing to install.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use common::chassis::Config;
use common::schemas::SiteId;
use common::telemetry;

use crate::certs;
use crate::cli::Demo;
use crate::init;
use crate::output::line;
use crate::sites::{self, Role};

/// How long the sites may take to be at work.
const READY: Duration = Duration::from_secs(30);

/// TOML of the engines and logs of one site.
fn common(site: &str, directory: &Path) -> String {
    let home = directory.join(site).display().to_string();
    format!(
        "[common]\nsite = {site:?}\n[common.log]\nlevel = \"warn\"\n[common.broker]\nurl = \"sqlite://{home}/broker.db\"\n\
         [common.table]\nurl = \"sqlite://{home}/table.db\"\n[common.volume]\nurl = \"file://{home}/volume\"\n"
    )
}

fn tls(certs: &Path, name: &str) -> String {
    let certs = certs.display();
    format!("ca = \"{certs}/ca.crt\"\ncertificate = \"{certs}/{name}.crt\"\nkey = \"{certs}/{name}.key\"\n")
}

fn core(demo: &Demo, directory: &Path, certs: &Path) -> Result<Config> {
    let mut text = common("core", directory);
    let catalogue = demo.catalogue.as_deref().unwrap_or("sample:");
    write!(
        text,
        "[feed]\ncatalogue = {catalogue:?}\nserve = \"127.0.0.1:{}\"\n\
         [downloader]\nallow = [\"127.0.0.1\"]\n\
         [depot]\nlisten = \"127.0.0.1:{}\"\n[depot.tls]\n{}\
         [viewer]\nlisten = \"127.0.0.1:{}\"\n",
        demo.feed_port,
        demo.depot_port,
        tls(certs, "servers/127.0.0.1"),
        demo.port
    )?;
    let config = Config::parse(&text)?;
    match &demo.core_config {
        Some(file) => Ok(config.with(Config::read(Some(file), [])?)),
        None => Ok(config),
    }
}

fn edge(demo: &Demo, number: u16, directory: &Path, certs: &Path) -> Result<Config> {
    let name = format!("edge-{number}");
    let mut text = common(&name, directory);
    let core = directory.join("core").display().to_string();
    write!(
        text,
        "[link.core]\nurl = \"sqlite://{core}/broker.db\"\n\
         [mirror]\ndepot = \"https://127.0.0.1:{}\"\n[mirror.tls]\n{}\
         [viewer]\nlisten = \"127.0.0.1:{}\"\n",
        demo.depot_port,
        tls(certs, &format!("sites/{name}")),
        demo.port + number
    )?;
    Ok(Config::parse(&text)?)
}

/// `fieldline demo`.
pub(crate) async fn run(demo: &Demo) -> Result<()> {
    if demo.fresh && demo.dir.exists() {
        forget(&demo.dir)?;
    }
    std::fs::create_dir_all(&demo.dir).with_context(|| format!("cannot make {}", demo.dir.display()))?;
    let directory = demo
        .dir
        .canonicalize()
        .with_context(|| format!("cannot find {}", demo.dir.display()))?;
    let certs = directory.join("certs");
    let edges: Vec<SiteId> = (1..=demo.edges)
        .map(|number| format!("edge-{number}").parse())
        .collect::<Result<_, _>>()?;
    certs::make(&crate::cli::Certs {
        dir: certs.clone(),
        servers: vec!["127.0.0.1".to_owned(), "localhost".to_owned()],
        sites: edges.clone(),
    })?;

    let core = core(demo, &directory, &certs)?;
    let host = init::host_settings(&core)?;
    let telemetry = telemetry::init(&host.telemetry(), "fieldline").context("cannot set up logs")?;
    let shape = init::Shape::default();
    init::make(Role::Core, &core, &shape).await?;
    let mut sites = vec![(Role::Core, core)];
    for (number, site) in (1..).zip(&edges) {
        let config = edge(demo, number, &directory, &certs)?;
        init::make(Role::Edge, &config, &shape).await?;
        let certificate = certs.join("sites").join(format!("{site}.crt"));
        init::enrol(&sites[0].1, &shape, site, &certificate).await?;
        sites.push((Role::Edge, config));
    }
    let group = sites::start(&sites, telemetry.clone())?;
    group.ready(READY).await.context("the demo did not start")?;
    welcome(demo, &directory);
    let ended = group.wait().await;
    telemetry.shutdown();
    ended
}

/// Deletes only what a demo has made: a mistyped directory keeps its files.
fn forget(directory: &Path) -> Result<()> {
    let made: Vec<PathBuf> = std::fs::read_dir(directory)
        .with_context(|| format!("cannot read {}", directory.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name == "core" || name == "certs" || name.starts_with("edge-")
        })
        .collect();
    for path in made {
        std::fs::remove_dir_all(&path).with_context(|| format!("cannot delete {}", path.display()))?;
    }
    Ok(())
}

fn welcome(demo: &Demo, directory: &Path) {
    line(format!(
        "\nFieldline is running; what it stores is in {}. Ctrl-C stops it.\n",
        directory.display()
    ));
    line(format!("  core    http://127.0.0.1:{}", demo.port));
    for number in 1..=demo.edges {
        line(format!(
            "  edge-{number}  http://127.0.0.1:{}",
            demo.port + number
        ));
    }
    line(format!(
        "\nIn another terminal, as the field team of edge-1:\n\n  \
         export FIELDLINE_URL=http://127.0.0.1:{}\n  \
         fieldline status                 what runs, and what is wrong\n  \
         fieldline assets                 what the core has broadcast so far\n  \
         fieldline request ASSET…         ask for some of them\n  \
         fieldline mirror start           fetch their bytes\n  \
         fieldline link pause             be offline; `fieldline link resume` ends it\n\n\
         As headquarters: fieldline assets --url http://127.0.0.1:{}",
        demo.port + 1,
        demo.port
    ));
}
