//! Making what a site needs: topics, tables, a volume. Twice changes nothing.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use common::broker::{self, Broker, TopicSpec};
use common::chassis::{Config, Host, HostSettings, Service, Settings as _, Span, Stop};
use common::schemas::{CORE_TABLES, EDGE_TABLES, SiteId, Topic};
use common::table::{self, Session, Write};
use common::volume::{self, Volume};
use serde::{Deserialize, Serialize};

use crate::certs;
use crate::cli;
use crate::output::line;
use crate::sites::{self, Role};
use crate::token;

/// How topics are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    partitions: i32,
    replication: i32,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            partitions: 3,
            replication: 1,
        }
    }
}

/// The part of a site's settings that says where its engines are.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Engines {
    broker: broker::Settings,
    table: table::Settings,
    volume: volume::Settings,
    /// Topics beside those that every site has: `[[init.topics]]`.
    topics: Vec<ExtraTopic>,
}

/// A topic of the operator's own.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ExtraTopic {
    /// Its name.
    name: String,
    /// Its partitions; `--partitions` where there is none.
    partitions: Option<i32>,
    /// Its replicas; `--replication` where there is none.
    replication: Option<i32>,
    /// Keeps the newest record of each key instead of the newest days.
    compacted: bool,
    /// How long records stay, as `7days`; the engine's own default where there is none.
    retention: Option<Span>,
}

impl ExtraTopic {
    fn specification(&self, shape: &Shape) -> TopicSpec {
        let mut made = TopicSpec::new(self.name.clone(), self.partitions.unwrap_or(shape.partitions));
        made.replication = self.replication.unwrap_or(shape.replication);
        made.retention = self.retention.map(|retention| *retention);
        if self.compacted { made.compacted() } else { made }
    }
}

impl common::chassis::Settings for Engines {
    fn validate(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        for (key, found) in [
            ("broker", self.broker.validate()),
            ("table", self.table.validate()),
            ("volume", self.volume.validate()),
        ] {
            problems.extend(
                found
                    .err()
                    .into_iter()
                    .flatten()
                    .map(|problem| format!("{key}.{problem}")),
            );
        }
        for topic in &self.topics {
            let name = &topic.name;
            let valid = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
            if name.is_empty() || name.len() > 249 || !name.chars().all(valid) {
                problems.push(format!(
                    "topics: {name:?} is no topic's name: letters, digits, dots, dashes and underscores"
                ));
            }
            if [topic.partitions, topic.replication]
                .into_iter()
                .flatten()
                .any(|count| count < 1)
            {
                problems.push(format!(
                    "topics: {name} needs at least one partition and one replica"
                ));
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }
}

/// Lets `init` read the settings file by the same rule as every service.
struct Init;

impl Service for Init {
    const NAME: &'static str = "init";
    type Settings = Engines;

    async fn build(settings: Engines, _host: &Host) -> Result<Self> {
        settings
            .validate()
            .map_err(|problems| anyhow::anyhow!(problems.join("; ")))?;
        Ok(Self)
    }

    async fn run(self, stop: Stop) -> Result<()> {
        stop.cancelled().await;
        Ok(())
    }
}

/// The site's name and how its process logs.
pub(crate) fn host_settings(config: &Config) -> Result<HostSettings> {
    Ok(config.load::<Init>()?.host)
}

/// Whether this process owns the site's topics.
pub(crate) fn embedded(config: &Config) -> Result<bool> {
    Ok(config.load::<Init>()?.settings.broker.url.starts_with("sqlite:"))
}

/// The settings with a token file in the site's own directory, where they name none and the site has such a directory.
pub(crate) fn with_token_file(config: Config) -> Result<Config> {
    if config.load::<viewer::Viewer>()?.settings.token_file.is_some() {
        return Ok(config);
    }
    let engines = config.load::<Init>()?.settings;
    let home = [
        ("sqlite://", &engines.broker.url),
        ("sqlite://", &engines.table.url),
        ("file://", &engines.volume.url),
    ]
    .into_iter()
    .find_map(|(scheme, url)| Path::new(url.strip_prefix(scheme)?).parent());
    match home {
        Some(home) => {
            let path = home.join(token::FILE);
            let text = format!("[viewer]\ntoken_file = {:?}\n", path.display().to_string());
            Ok(Config::parse(&text)?.with(config))
        }
        None => Ok(config),
    }
}

/// Makes the site's token file, so that a command finds it before the viewer has started.
fn make_token(config: &Config) -> Result<Option<PathBuf>> {
    let path = config.load::<viewer::Viewer>()?.settings.token_file;
    path.map(|path| viewer::token(&path).map(|_| path)).transpose()
}

fn specification(topic: &Topic, shape: &Shape) -> TopicSpec {
    TopicSpec::of(topic, shape.partitions, shape.replication)
}

/// What was made.
#[derive(Debug, Default)]
pub(crate) struct Made {
    topics: Vec<String>,
    tables: Vec<&'static str>,
}

/// Makes what a site needs.
pub(crate) async fn make(role: Role, config: &Config, shape: &Shape) -> Result<Made> {
    let loaded = config.load::<Init>()?;
    let site: SiteId = loaded.host.site.parse()?;
    let client = format!("{site}.init");
    let registry = prometheus::Registry::new();
    let broker = Broker::open(&loaded.settings.broker, &client, &registry).await?;
    let (topics, tables) = match role {
        Role::Core => (Topic::core(), CORE_TABLES),
        Role::Edge => (Topic::edge(&site), EDGE_TABLES),
    };
    let mut made = Made::default();
    let extra = loaded
        .settings
        .topics
        .iter()
        .map(|topic| topic.specification(shape));
    for topic in topics
        .iter()
        .map(|topic| specification(topic, shape))
        .chain(extra)
    {
        if broker.create_topic(&topic).await? {
            made.topics.push(topic.name);
        }
    }
    let session = Session::open(&loaded.settings.table, &client, &registry).await?;
    made.tables = session.migrate(tables).await?;
    Volume::open(&loaded.settings.volume).await?.ping().await?;
    Ok(made)
}

/// Enrols an edge at the core: its topics, and its right to use the depot with this certificate.
pub(crate) async fn enrol(config: &Config, shape: &Shape, edge: &SiteId, certificate: &Path) -> Result<()> {
    let loaded = config.load::<Init>()?;
    let pem = std::fs::read_to_string(certificate).with_context(|| {
        format!(
            "cannot read {}\nhint: fieldline certs --site {edge} makes it",
            certificate.display()
        )
    })?;
    let fingerprint = identity::fingerprint(&pem)?;
    let client = format!("{}.init", loaded.host.site);
    let registry = prometheus::Registry::new();
    let broker = Broker::open(&loaded.settings.broker, &client, &registry).await?;
    for topic in Topic::core_for(edge) {
        broker.create_topic(&specification(&topic, shape)).await?;
    }
    let session = Session::open(&loaded.settings.table, &client, &registry).await?;
    session.prepare(CORE_TABLES).await?;
    let key = [("realm", "core".into()), ("site", edge.as_str().into())];
    let before = session.get("sites", &key).await?;
    if let Some(row) = &before {
        ensure!(
            row.timestamp("revoked_at").is_none(),
            "{edge} was revoked; `fieldline site add` enrols it anew"
        );
        if row.text("certificate_sha256") == Some(fingerprint.as_str()) {
            return Ok(());
        }
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    let enrolled_at = table::Value::timestamp(i64::try_from(now)?);
    let row = Write::to("sites")
        .set("realm", "core")
        .set("site", edge.as_str())
        .set("certificate_sha256", fingerprint)
        .set("enrolled_at", enrolled_at);
    Ok(session.upsert(row).await?)
}

/// The command.
pub(crate) async fn run(command: &cli::Init) -> Result<()> {
    let shape = Shape {
        partitions: command.partitions,
        replication: command.replication,
    };
    for (role, config) in sites::read(&command.sites)? {
        let site = host_settings(&config)?.site;
        let made = make(role, &config, &shape)
            .await
            .with_context(|| format!("cannot make what {site} needs"))?;
        if made.topics.is_empty() && made.tables.is_empty() {
            line(format!("{site}: everything is there already"));
        } else {
            line(format!(
                "{site}: made {} topics, {} tables",
                made.topics.len(),
                made.tables.len()
            ));
        }
        match make_token(&config) {
            Ok(Some(path)) => line(format!("{site}: commands use the token file {}", path.display())),
            Ok(None) => line(format!(
                "{site}: set viewer.token_file, or nobody can add its first user"
            )),
            // Where secrets are mounted the viewer alone may have it.
            Err(error) => line(format!("{site}: {error:#}")),
        }
        if role == Role::Core {
            for edge in &command.enrol {
                let directory = command.certs.as_deref().unwrap_or_else(|| Path::new("certs"));
                let certificate = directory.join("sites").join(format!("{edge}.crt"));
                enrol(&config, &shape, edge, &certificate)
                    .await
                    .with_context(|| format!("cannot enrol {edge}"))?;
                line(format!("{site}: {edge} is enrolled"));
                if let Some(out) = &command.out {
                    let path = out.join(format!("{edge}.enrolment"));
                    certs::write(&certs::enrolment(directory, edge, &command.core)?, &path)?;
                    line(format!("{site}: give {edge} its enrolment {}", path.display()));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(directory: &Path, topics: &str) -> Config {
        let home = directory.display();
        let text = format!(
            "[common]\nsite = \"core\"\n[common.broker]\nurl = \"sqlite://{home}/broker.db\"\n\
             [common.table]\nurl = \"sqlite://{home}/table.db\"\n[common.volume]\nurl = \"file://{home}/volume\"\n{topics}"
        );
        Config::parse(&text).unwrap()
    }

    #[tokio::test]
    async fn what_is_made_twice_is_made_once() {
        let directory = std::env::temp_dir().join(format!("fieldline-init-{}", std::process::id()));
        let config = site(
            &directory,
            "[[init.topics]]\nname = \"own\"\npartitions = 5\nretention = \"7days\"\n",
        );
        let made = make(Role::Core, &config, &Shape::default()).await.unwrap();
        assert!(
            made.topics.contains(&"own".to_owned()) && made.topics.contains(&"asset-pipeline".to_owned())
        );
        assert_eq!(made.tables.len(), CORE_TABLES.len());
        let again = make(Role::Core, &config, &Shape::default()).await.unwrap();
        assert!(again.topics.is_empty() && again.tables.is_empty());
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_topic_that_cannot_be_made_is_named() {
        let config = site(
            Path::new("/nowhere"),
            "[[init.topics]]\nname = \"own topic\"\npartitions = 0\n",
        );
        let said = config.load::<Init>().unwrap_err().to_string();
        assert!(
            said.contains("\"own topic\" is no topic's name") && said.contains("at least one partition"),
            "{said}"
        );
    }
}
