//! A core and two edges as real processes, in each of the three shapes that the exchange must work in.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use testkit::free_port;

use crate::catalogue::Catalogue;
use crate::process::{Process, program};
use crate::site::{Site, eventually};

/// Which processes and engines an installation is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// All sites in one process, on embedded engines.
    OneProcess,
    /// Each service its own process, on real Kafka (one broker a site) and real Cassandra.
    EachService,
    /// Each edge one process on embedded engines; the core's services on real Kafka and Cassandra.
    SmallEdges,
}

/// The services of a core, in the order in which they are started.
pub const CORE_SERVICES: &[&str] = &[
    "viewer",
    "responder",
    "broadcaster",
    "downloader",
    "depot",
    "feed",
];
/// The services of an edge.
pub const EDGE_SERVICES: &[&str] = &["viewer", "listener", "requester", "mirror", "link"];

/// A core, its edges, and the processes they are.
#[derive(Debug)]
pub struct Installation {
    /// The core.
    pub core: Site,
    /// The edges.
    pub edges: Vec<Site>,
    /// Where the core's tables are.
    pub core_table: String,
    /// The core's volume.
    pub core_volume: PathBuf,
    /// The edges' volumes, in their order.
    pub edge_volumes: Vec<PathBuf>,
    /// Every process, in the order in which they were started.
    pub processes: Vec<Process>,
    /// The real engines that it uses, as deploy/engines/engines names them.
    pub engines: Vec<&'static str>,
    directory: Option<tempfile::TempDir>,
}

/// What an installation announces, and how fast.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The catalogue.
    pub catalogue: &'a Catalogue,
    /// How many entries at a time.
    pub batch: usize,
    /// Time between batches, as `100ms`.
    pub interval: &'a str,
    /// How many edges.
    pub edges: usize,
}

/// The value of an environment variable that names a real engine.
///
/// # Errors
/// When it is not set.
pub fn engine(variable: &str) -> Result<String> {
    std::env::var_os(variable)
        .and_then(|value| value.into_string().ok())
        .with_context(|| {
            format!("{variable} is not set; `cargo xtask test --engines` starts the engines and sets it")
        })
}

fn fieldline(arguments: &[&str], directory: &Path) -> Result<()> {
    let output = Command::new(program("fieldline")?)
        .args(arguments)
        .current_dir(directory)
        .output()?;
    ensure!(
        output.status.success(),
        "fieldline {} ended with {}: {}{}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// The addresses of one site's engines, and its directory.
struct Place {
    broker: String,
    table: String,
    volume: PathBuf,
}

impl Place {
    fn embedded(directory: &Path, site: &str) -> Self {
        let home = directory.join(site);
        Self {
            broker: format!("sqlite://{}/broker.db", home.display()),
            table: format!("sqlite://{}/table.db", home.display()),
            volume: home.join("volume"),
        }
    }

    /// Keyspaces are told apart by the installation's directory, since tests share the node.
    fn real(directory: &Path, site: &str, broker: &str) -> Result<Self> {
        let node = engine("CASSANDRA_URL")?;
        let node = node.rsplit_once('/').map_or(node.as_str(), |(node, _)| node);
        let unique: String = directory
            .display()
            .to_string()
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .collect();
        let unique = &blake3::hash(unique.as_bytes()).to_hex()[..8];
        Ok(Self {
            broker: engine(broker)?,
            table: format!("{node}/t{unique}_{}", site.replace('-', "_")),
            volume: directory.join(site).join("volume"),
        })
    }

    fn common(&self, site: &str) -> String {
        format!(
            "[common]\nsite = {site:?}\n[common.log]\nformat = \"json\"\nlevel = \"info\"\n[common.broker]\nurl = {:?}\n[common.table]\nurl = {:?}\n[common.volume]\nurl = \"file://{}\"\n",
            self.broker,
            self.table,
            self.volume.display()
        )
    }
}

impl Installation {
    /// Makes the sites and starts every process.
    ///
    /// # Errors
    /// When a part cannot be made or started.
    pub async fn start(shape: Shape, directory: &Path, plan: &Plan<'_>) -> Result<Self> {
        ensure!(
            plan.edges <= 2 || shape != Shape::EachService,
            "there are real brokers for two edges"
        );
        let names: Vec<String> = (1..=plan.edges).map(|number| format!("edge-{number}")).collect();
        let core_place = match shape {
            Shape::OneProcess => Place::embedded(directory, "core"),
            Shape::EachService | Shape::SmallEdges => Place::real(directory, "core", "KAFKA_URL")?,
        };
        let mut edge_places = Vec::new();
        for name in &names {
            edge_places.push(match shape {
                Shape::EachService if name == "edge-1" => Place::real(directory, name, "KAFKA_EDGE_URL")?,
                Shape::EachService => Place::real(directory, name, "KAFKA_EDGE_2_URL")?,
                Shape::OneProcess | Shape::SmallEdges => Place::embedded(directory, name),
            });
        }
        let engines: &[&'static str] = match shape {
            Shape::OneProcess => &[],
            Shape::EachService => &["core", "edge", "edge-2"],
            Shape::SmallEdges => &["core"],
        };
        for name in engines {
            empty_engine(name)?;
        }
        let certs = directory.join("certs");
        let mut words = vec!["certs", "--dir", "certs", "--server", "127.0.0.1"];
        words.extend(names.iter().flat_map(|name| ["--site", name.as_str()]));
        fieldline(&words, directory)?;

        let (core_port, depot_port) = (free_port(), free_port());
        let core = Site::new("core", core_port, token_file(directory, "core"))?;
        let core_file = directory.join("core.toml");
        std::fs::write(
            &core_file,
            core_settings(&core_place, plan, &certs, core_port, depot_port)
                + &token_setting(directory, "core"),
        )?;
        let core_file = core_file.display().to_string();
        let certs_text = certs.display().to_string();
        let mut words = vec!["init", "--core", &core_file, "--certs", &certs_text];
        words.extend(names.iter().flat_map(|name| ["--enrol", name.as_str()]));
        fieldline(&words, directory)?;

        let mut edges = Vec::new();
        let mut edge_files = Vec::new();
        for (name, place) in names.iter().zip(&edge_places) {
            let port = free_port();
            let file = directory.join(format!("{name}.toml"));
            let core = match shape {
                Shape::OneProcess => format!("[link.core]\nurl = {:?}\n", core_place.broker),
                Shape::EachService | Shape::SmallEdges => over_tls(&engine("KAFKA_TLS_URL")?)?,
            };
            std::fs::write(
                &file,
                edge_settings(name, place, &core, &certs, port, depot_port) + &token_setting(directory, name),
            )?;
            let file = file.display().to_string();
            fieldline(&["init", "--edge", &file], directory)?;
            edges.push(Site::new(name, port, token_file(directory, name))?);
            edge_files.push(file);
        }

        let mut processes = Vec::new();
        let mut start = |name: &str, service: &str, words: &[&str]| -> Result<()> {
            let words = words.iter().map(|word| (*word).to_owned()).collect();
            processes.push(Process::start(name, program(service)?, words, directory)?);
            Ok(())
        };
        if shape == Shape::OneProcess {
            let mut words = vec!["run", "--core", &core_file];
            words.extend(edge_files.iter().flat_map(|file| ["--edge", file.as_str()]));
            start("all", "fieldline", &words)?;
        } else {
            for service in CORE_SERVICES {
                start(&format!("core.{service}"), service, &["--config", &core_file])?;
            }
            for (name, file) in names.iter().zip(&edge_files) {
                if shape == Shape::SmallEdges {
                    start(name, "fieldline", &["run", "--edge", file])?;
                } else {
                    for service in EDGE_SERVICES {
                        start(&format!("{name}.{service}"), service, &["--config", file])?;
                    }
                }
            }
        }
        let installation = Self {
            core,
            edges,
            core_table: core_place.table,
            core_volume: core_place.volume,
            edge_volumes: edge_places.into_iter().map(|place| place.volume).collect(),
            processes,
            engines: engines.to_vec(),
            directory: None,
        };
        installation.answers(Duration::from_secs(90)).await?;
        Ok(installation)
    }

    /// Keeps the directory until the processes have stopped, and deletes it then: the scenario has passed.
    pub fn keeps(&mut self, mut directory: tempfile::TempDir) {
        directory.disable_cleanup(false);
        self.directory = Some(directory);
    }

    /// Waits until every site's API answers.
    ///
    /// # Errors
    /// When one does not within the limit.
    pub async fn answers(&self, limit: Duration) -> Result<()> {
        for site in std::iter::once(&self.core).chain(&self.edges) {
            eventually(limit, &format!("{} answers", site.name), || async {
                site.get("/api/site").await
            })
            .await?;
        }
        Ok(())
    }

    /// The process with this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn process(&mut self, name: &str) -> Result<&mut Process> {
        self.processes
            .iter_mut()
            .find(|process| process.name == name)
            .with_context(|| format!("no process {name}"))
    }

    /// The processes of a site.
    pub fn of<'a>(&'a mut self, site: &'a str) -> impl Iterator<Item = &'a mut Process> {
        self.processes
            .iter_mut()
            .filter(move |process| process.name.starts_with(site))
    }

    /// Fails if a process has ended that nobody killed.
    ///
    /// # Errors
    /// With the process and the last lines of its log.
    pub fn nothing_has_ended(&mut self) -> Result<()> {
        for process in &mut self.processes {
            if let Some(ended) = process.ended() {
                anyhow::bail!("{ended}\n{}", process.last_lines(15));
            }
        }
        Ok(())
    }

    /// Stops every process as an orchestrator would.
    ///
    /// # Errors
    /// When one does not stop, or not cleanly.
    pub async fn stop(mut self) -> Result<()> {
        for process in self.processes.iter_mut().rev() {
            process.stop(Duration::from_secs(60)).await?;
        }
        Ok(())
    }
}

/// What nobody has stopped has failed: the end of what its processes warned of is all that a machine far away shows of it.
impl Drop for Installation {
    #[expect(clippy::print_stdout, reason = "shown with the output of a test that fails")]
    fn drop(&mut self) {
        for process in self.processes.iter().filter(|process| process.pid().is_some()) {
            println!("{} warned last:\n{}", process.name, process.last_warnings(3));
        }
    }
}

/// Kills or starts a real engine.
///
/// # Errors
/// When the script says so.
pub fn tell_engine(command: &str, name: &str) -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/engines/engines");
    let status = Command::new(script)
        .args([command, name, "--dir", &engine("ENGINES_DIR")?])
        .status()?;
    ensure!(status.success(), "engines {command} {name} ended with {status}");
    Ok(())
}

/// Starts a real broker with nothing in it: the names of topics are fixed, so installations cannot share one.
fn empty_engine(name: &str) -> Result<()> {
    tell_engine("kill", name)?;
    let data = Path::new(&engine("ENGINES_DIR")?).join(name).join("data");
    if data.exists() {
        std::fs::remove_dir_all(&data).with_context(|| format!("cannot empty {}", data.display()))?;
    }
    tell_engine("start", name)
}

fn token_file(directory: &Path, site: &str) -> PathBuf {
    directory.join(format!("{site}.token"))
}

/// Goes after the settings, whose last section is the viewer's.
fn token_setting(directory: &Path, site: &str) -> String {
    format!("token_file = \"{}\"\n", token_file(directory, site).display())
}

/// The settings of a link to a broker at this address, over mutual TLS.
///
/// # Errors
/// When no engines are running.
pub fn over_tls(url: &str) -> Result<String> {
    Ok(format!("[link.core]\nurl = {url:?}\n{}", mutual_tls()?))
}

/// The certificates with which a link comes to the core's Kafka.
///
/// # Errors
/// When no engines are running.
pub fn mutual_tls() -> Result<String> {
    Ok(format!(
        "[link.core.tls]\nca = {:?}\ncertificate = {:?}\nkey = {:?}\n",
        engine("ENGINES_TLS_CA")?,
        engine("ENGINES_TLS_CERTIFICATE")?,
        engine("ENGINES_TLS_KEY")?
    ))
}

fn core_settings(place: &Place, plan: &Plan<'_>, certs: &Path, port: u16, depot: u16) -> String {
    let certs = certs.display();
    let catalogue = plan.catalogue;
    let rewrite = json!(catalogue.prefix);
    format!(
        "{}\n[feed]\ncatalogue = \"nasa-file://{}\"\ninterval = {:?}\nbatch = {}\nrewrite = [{{ from = {rewrite}, to = \"http://{}/\" }}]\n\
         [downloader]\nallow = [\"{}\"]\n\
         [depot]\nlisten = \"127.0.0.1:{depot}\"\n[depot.tls]\nca = \"{certs}/ca.crt\"\ncertificate = \"{certs}/servers/127.0.0.1.crt\"\nkey = \"{certs}/servers/127.0.0.1.key\"\n\
         [viewer]\nlisten = \"127.0.0.1:{port}\"\n",
        place.common("core"),
        catalogue.file.display(),
        plan.interval,
        plan.batch,
        catalogue.address,
        catalogue.address
    )
}

fn edge_settings(name: &str, place: &Place, core: &str, certs: &Path, port: u16, depot: u16) -> String {
    let certs = certs.display();
    format!(
        "{}\n{core}\
         [mirror]\ndepot = \"https://127.0.0.1:{depot}\"\n[mirror.tls]\nca = \"{certs}/ca.crt\"\ncertificate = \"{certs}/sites/{name}.crt\"\nkey = \"{certs}/sites/{name}.key\"\n\
         [viewer]\nlisten = \"127.0.0.1:{port}\"\n",
        place.common(name)
    )
}
