//! An edge and a core that are brokers only, and what a link needs to be at work between them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use broker::{Broker, Settings, TopicSpec};
use prometheus::Registry;
use schemas::{SiteId, Topic};
use testkit::proxy::{Proxy, Tap};

use crate::installation::{Shape, engine, over_tls};
use crate::process::{Process, program};

/// Opens a broker as a tool of these scenarios.
///
/// # Errors
/// When the URL is none.
pub async fn open(url: &str, client: &str) -> Result<Broker> {
    Ok(Broker::open(&Settings::url(url), client, &Registry::new()).await?)
}

/// A line before a real broker, which tells whoever comes over the line to come again that way. `variable` is
/// `KAFKA`, `KAFKA_EDGE` or `KAFKA_EDGE_2`; `_TLS` after it is the encrypted one.
///
/// # Errors
/// When engines were started without `--lines`, or the line's port is taken.
pub async fn line(
    variable: &str,
    encrypted: bool,
    seed: u64,
    tap: Option<std::sync::Arc<dyn Tap>>,
) -> Result<Proxy> {
    let of = |end: &str| {
        let name = format!("{variable}_{end}{}", if encrypted { "_TLS" } else { "" });
        engine(&name).context("engines must be started with --lines")
    };
    let (listen, upstream) = (of("LINE")?, of("FAR")?);
    Proxy::tapped(&listen, &upstream, seed, tap)
        .await
        .with_context(|| format!("no line can be laid at {listen}"))
}

/// The edge's broker. Where the edge is one process, it must not be running when that is opened.
///
/// # Errors
/// When there is no engine for it.
pub fn edge_broker(shape: Shape, directory: &Path, edge: &str) -> Result<String> {
    match shape {
        Shape::EachService => engine("KAFKA_EDGE_URL"),
        Shape::OneProcess | Shape::SmallEdges => {
            Ok(format!("sqlite://{}/broker.db", directory.join(edge).display()))
        }
    }
}

/// Waits until this process has closed the edge's own broker, which it does behind one's back.
///
/// # Errors
/// When there is no such broker.
pub async fn let_go(directory: &Path, edge: &str, limit: Duration) -> Result<()> {
    let lock = std::fs::File::open(directory.join(edge).join("broker.db.lock"))?;
    testkit::eventually(limit, || async {
        lock.try_lock().map_err(|error| error.to_string())
    })
    .await;
    Ok(lock.unlock()?)
}

/// Makes the topics that a link wants at both sides, and those of its routes with `partitions` each.
///
/// # Errors
/// When a broker does not take one.
pub async fn enrol(
    site: &SiteId,
    core: &Broker,
    edge: &Broker,
    at_core: &[&str],
    at_edge: &[&str],
    partitions: i32,
) -> Result<()> {
    let spec = |topic: &Topic| {
        let spec = TopicSpec::new(&topic.name, topic.partitions.unwrap_or(3));
        if topic.compacted { spec.compacted() } else { spec }
    };
    for topic in Topic::core().iter().chain(&Topic::core_for(site)) {
        core.create_topic(&spec(topic)).await?;
    }
    for topic in &Topic::edge(site) {
        edge.create_topic(&spec(topic)).await?;
    }
    for (broker, topics) in [(core, at_core), (edge, at_edge)] {
        for topic in topics {
            broker.create_topic(&TopicSpec::new(*topic, partitions)).await?;
        }
    }
    Ok(())
}

/// Puts a line between an edge of an installation and the core's broker, and one between it and the depot, both
/// encrypted, and a door between its mirror and its link, so that they have one budget; its processes find them when they are
/// started again. `routes` are added to the link's.
///
/// # Errors
/// When the edge's settings are not those of an [`crate::installation::Installation`], or a line cannot be laid.
pub async fn lay_lines(directory: &Path, edge: &str, routes: &str, seed: u64) -> Result<[Proxy; 2]> {
    let file = directory.join(format!("{edge}.toml"));
    let mut settings = std::fs::read_to_string(&file)?;
    let records = line("KAFKA", true, seed, None).await?;
    let upstream = settings
        .split_once("depot = \"https://")
        .and_then(|(_, rest)| rest.split_once('"'))
        .map(|(address, _)| address.to_owned())
        .context("the mirror's settings name no depot")?;
    let files = Proxy::start("127.0.0.1:0", &upstream, seed ^ 1).await?;
    let door = format!("127.0.0.1:{}", testkit::free_port());
    let depot = |address: &str| format!("depot = \"https://{address}\"");
    settings = settings.replace(
        &depot(&upstream),
        &format!("{}\ndoor = {door:?}", depot(&files.address().to_string())),
    );
    let core = over_tls(&engine("KAFKA_TLS_URL")?)?;
    let through = over_tls(&format!("kafka://{}", records.address()))?;
    let through = format!(
        "[link]\n{through}[link.door]\nlisten = {door:?}\nallow = [{:?}]\n",
        files.address().to_string()
    );
    ensure!(
        settings.contains(&core),
        "no [link.core] as expected in:\n{settings}"
    );
    settings = settings.replace(&core, &(through + routes));
    std::fs::write(&file, settings)?;
    Ok([records, files])
}

/// The settings of a link of its own: `routes` and `more` are TOML.
pub fn settings(site: &SiteId, edge: &str, core: &str, more: &str, routes: &str) -> String {
    format!(
        "[common]\nsite = \"{site}\"\n[common.log]\nformat = \"json\"\nlevel = \"info\"\n\
         [common.broker]\nurl = {edge:?}\n\
         [link]\n{more}\n[link.core]\nurl = {core:?}\n{routes}"
    )
}

/// A route of one topic.
pub fn route(name: &str, direction: &str, topic: &str, rename: &str) -> String {
    format!(
        "[[link.extra_routes]]\nname = {name:?}\ndirection = {direction:?}\ntopics = [{topic:?}]\nrename = {rename:?}\n"
    )
}

/// Starts a link with these settings; `binary` instead of the one that was built beside this program.
///
/// # Errors
/// When it cannot be started.
pub fn start_link(settings: &str, directory: &Path, binary: Option<&Path>) -> Result<Process> {
    let file = directory.join("link.toml");
    std::fs::write(&file, settings)?;
    let binary = match binary {
        Some(path) => path.to_path_buf(),
        None => program("link")?,
    };
    let words = vec!["--config".to_owned(), text(file)];
    Process::start("link", binary, words, directory)
}

fn text(path: PathBuf) -> String {
    path.display().to_string()
}
