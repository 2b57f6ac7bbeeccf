//! A core and its edges in one process, on embedded engines, with nothing to install.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use common::chassis::Config;
use common::identity::BrokerAddress;
use common::schemas::SiteId;
use common::telemetry;
use serde_json::json;
use tokio::task::JoinSet;

use crate::certs;
use crate::cli::{Api, CoreAddresses, Demo};
use crate::client::Client;
use crate::init;
use crate::output::{line, text};
use crate::people::link;
use crate::sites::{self, Role};
use crate::token;

/// How long the sites may take until their pages answer, and to be at work.
const READY: Duration = Duration::from_secs(30);
/// How often a page is asked whether it is there.
const LOOK: Duration = Duration::from_millis(25);

/// A site that a person looks at.
struct Place {
    site: String,
    kind: &'static str,
    url: String,
    token_file: PathBuf,
    link: String,
    /// What to give it at its set-up, where it starts without.
    enrolment: Option<PathBuf>,
}

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
        Some(file) => init::with_token_file(config.with(Config::read(Some(file), [])?)),
        None => init::with_token_file(config),
    }
}

fn edge(demo: &Demo, number: u16, directory: &Path, certs: &Path) -> Result<Config> {
    let name = format!("edge-{number}");
    let mut text = common(&name, directory);
    write!(text, "[viewer]\nlisten = \"127.0.0.1:{}\"\n", demo.port + number)?;
    let mut config = Config::parse(&text)?;
    if demo.starts_without(&name) {
        let place = directory.join(&name).join("site.enrolment").display().to_string();
        config = config.with(Config::parse(&format!("[common]\nenrolment = {place:?}\n"))?);
    } else {
        let core = directory.join("core").display().to_string();
        config = config.with(Config::parse(&format!(
            "[link.core]\nurl = \"sqlite://{core}/broker.db\"\n\
             [mirror]\ndepot = \"https://127.0.0.1:{}\"\n[mirror.tls]\n{}",
            demo.depot_port,
            tls(certs, &format!("sites/{name}")),
        ))?);
    }
    init::with_token_file(config)
}

impl Demo {
    fn starts_without(&self, edge: &str) -> bool {
        self.not_connected.iter().any(|name| name.as_str() == edge)
    }
}

/// Where the enrolment of an edge lies that starts without it.
fn offered(directory: &Path, edge: &str) -> PathBuf {
    directory.join(format!("{edge}.enrolment"))
}

/// Writes what the edges that start without it are to be given.
fn offer(demo: &Demo, directory: &Path, certs: &Path) -> Result<()> {
    let core = CoreAddresses {
        broker: Some(BrokerAddress::File(directory.join("core").join("broker.db")).to_string()),
        depot: Some(format!("https://127.0.0.1:{}", demo.depot_port)),
    };
    for edge in &demo.not_connected {
        let enrolment = certs::enrolment(certs, edge, &core)?;
        // An earlier demo's may name another port.
        enrolment.replace(&offered(directory, edge.as_str()))?;
    }
    Ok(())
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
    if let Some(unknown) = demo.not_connected.iter().find(|name| !edges.contains(name)) {
        bail!(
            "there is no {unknown} here\nhint: the edges are edge-1 to edge-{}",
            demo.edges
        );
    }
    certs::prepare(&certs, &["127.0.0.1".to_owned(), "localhost".to_owned()], &edges)?;

    offer(demo, &directory, &certs)?;
    let core = core(demo, &directory, &certs)?;
    let host = init::host_settings(&core)?;
    let telemetry = telemetry::init(&host.telemetry(), "fieldline").context("cannot set up logs")?;
    let shape = init::Shape::default();
    let mut sites = vec![(Role::Core, core)];
    for number in 1..=demo.edges {
        sites.push((Role::Edge, edge(demo, number, &directory, &certs)?));
    }
    // Each site has files of its own, so what they need is made side by side.
    let mut making = JoinSet::new();
    for (role, config) in sites.clone() {
        making.spawn(async move { init::make(role, &config, &shape).await });
    }
    while let Some(made) = making.join_next().await {
        made??;
    }
    for site in &edges {
        let certificate = certs.join("sites").join(format!("{site}.crt"));
        init::enrol(&sites[0].1, &shape, site, &certificate).await?;
    }
    let group = sites::start(&sites, telemetry.clone())?;
    let shown = async { welcome(demo, &directory, &places(demo, &directory).await?) };
    let ready = async { group.ready(READY).await.context("the demo did not start") };
    tokio::try_join!(shown, ready)?;
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
        let gone = if path.is_dir() {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        };
        gone.with_context(|| format!("cannot delete {}", path.display()))?;
    }
    Ok(())
}

/// The pages, each with a link that signs in until it was used once; they answer before all services are at work.
async fn places(demo: &Demo, directory: &Path) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    for number in 0..=demo.edges {
        let (site, kind) = match number {
            0 => ("core".to_owned(), "core"),
            number => (format!("edge-{number}"), "edge"),
        };
        let url = format!("http://127.0.0.1:{}", demo.port + number);
        let token_file = directory.join(&site).join(token::FILE);
        let ticket = ticket(&url, &token_file)
            .await
            .with_context(|| format!("the page of {site} did not start"))?;
        places.push(Place {
            link: link(&url, &ticket),
            enrolment: demo.starts_without(&site).then(|| offered(directory, &site)),
            site,
            kind,
            url,
            token_file,
        });
    }
    Ok(places)
}

async fn ticket(url: &str, token_file: &Path) -> Result<String> {
    let deadline = tokio::time::Instant::now() + READY;
    let body = json!({"user": "demo", "role": "operator", "until_used": true});
    loop {
        // The client reads the token file, which the viewer makes, so a new one is tried each time.
        let client = Client::new(&Api {
            url: url.to_owned(),
            token_file: Some(token_file.to_owned()),
            by: None,
            json: false,
        })?;
        match client.post("/api/tickets", body.clone()).await {
            Ok(answer) => return Ok(text(&answer, "ticket")),
            Err(error) if tokio::time::Instant::now() > deadline => return Err(error),
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

fn welcome(demo: &Demo, directory: &Path, places: &[Place]) -> Result<()> {
    let Some(edge) = places.get(1) else {
        bail!("a demo has at least one edge");
    };
    if demo.json {
        let sites: Vec<_> = places
            .iter()
            .map(|place| {
                json!({
                    "site": place.site, "kind": place.kind, "url": place.url, "link": place.link,
                    "token_file": place.token_file, "enrolment": place.enrolment,
                })
            })
            .collect();
        line(json!({"directory": directory, "sites": sites}).to_string());
        return Ok(std::io::stdout().flush()?);
    }
    line(format!(
        "\nFieldline is running; what it stores is in {}. Ctrl-C stops it.\n\nEach link signs in once:\n",
        directory.display()
    ));
    for place in places {
        line(format!("  {:<8}{}", place.site, place.link));
    }
    for place in places {
        if let Some(enrolment) = &place.enrolment {
            line(format!(
                "\n{} is not connected: open its page, and give it {}",
                place.site,
                enrolment.display()
            ));
        }
    }
    line(format!(
        "\nIn another terminal, as the field team of edge-1:\n\n  \
         export FIELDLINE_URL={} FIELDLINE_TOKEN_FILE={}\n  \
         fieldline sign-in                another link to its page\n  \
         fieldline status                 what runs, and what is wrong\n  \
         fieldline assets                 what the core has broadcast so far\n  \
         fieldline request ASSET…         ask for some of them\n  \
         fieldline mirror start           fetch their bytes\n  \
         fieldline link pause             be offline; `fieldline link resume` ends it\n\n\
         As headquarters: fieldline assets --url {} --token-file {}",
        edge.url,
        edge.token_file.display(),
        places[0].url,
        places[0].token_file.display()
    ));
    Ok(std::io::stdout().flush()?)
}
