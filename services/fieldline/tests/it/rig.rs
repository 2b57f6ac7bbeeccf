//! A core and an edge on embedded engines, made by the commands themselves; and the commands.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use common::broker::{self, Broker, Outgoing};
use common::chassis::now_ms;
use common::schemas::RequestId;
use common::volume::{self, ManifestEntry, Volume};
use testkit::TempDir;

/// What a command left.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Said {
    /// It did what it was told, and printed this.
    #[track_caller]
    pub(crate) fn prints(&self, wanted: &str) -> &Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert!(self.out.contains(wanted), "{wanted:?} is not in {self:?}");
        self
    }

    /// It failed with this code, and said this, on stderr.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, wanted: &str) -> &Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.contains(wanted), "{wanted:?} is not in {self:?}");
        self
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        serde_json::from_str(&self.out).unwrap()
    }
}

/// `fieldline` with these words, in an environment that says nothing of sites.
pub(crate) fn command<S: AsRef<std::ffi::OsStr>>(words: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fieldline"));
    command.args(words).env("USER", "tester").stdin(Stdio::null());
    for name in ["FIELDLINE_URL", "FIELDLINE_TOKEN_FILE", "CONFIG_FILE"] {
        command.env_remove(name);
    }
    command
}

pub(crate) fn fieldline(words: &[&str]) -> Said {
    command(words).output().unwrap().into()
}

/// A process that is killed with the test.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already is as dead as it should be.
        let _killed = self.0.kill();
        let _status = self.0.wait();
    }
}

/// Both sites, with what `init` makes, and nothing at work.
pub(crate) struct Rig {
    pub(crate) directory: TempDir,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let rig = Self {
            directory: testkit::temp_dir(),
        };
        let certs = rig.text("certs");
        let made = fieldline(&[
            "certs",
            "--dir",
            &certs,
            "--server",
            "127.0.0.1",
            "--site",
            "core",
            "--site",
            "edge-1",
        ]);
        made.prints("edge-1.crt");
        let tls = |name: &str| {
            format!(
                "ca = \"{certs}/ca.crt\"\ncertificate = \"{certs}/{name}.crt\"\nkey = \"{certs}/{name}.key\"\n"
            )
        };
        let mut core = rig.engines("core");
        write!(
            core,
            "[depot.tls]\n{}[bundle]\n{}",
            tls("servers/127.0.0.1"),
            tls("sites/core")
        )
        .unwrap();
        let mut edge = rig.engines("edge-1");
        write!(
            edge,
            "[link.core]\nurl = \"sqlite://{}\"\n[[link.extra_routes]]\nname = \"readings\"\ndirection = \"up\"\n\
             topics = [\"readings\"]\nrename = \"prefix\"\n[mirror]\ndepot = \"https://127.0.0.1:1\"\n[mirror.tls]\n{}",
            rig.text("core/broker.db"),
            tls("sites/edge-1"),
        )
        .unwrap();
        std::fs::write(rig.path("core.toml"), core).unwrap();
        std::fs::write(rig.path("edge.toml"), edge).unwrap();
        let (core, edge) = (rig.text("core.toml"), rig.text("edge.toml"));
        fieldline(&["init", "--core", &core, "--enrol", "edge-1", "--certs", &certs]).prints("");
        fieldline(&["init", "--edge", &edge]).prints("");
        std::fs::create_dir(rig.path("stick")).unwrap();
        rig
    }

    fn engines(&self, site: &str) -> String {
        let home = self.text(site);
        format!(
            "[common]\nsite = {site:?}\n[common.broker]\nurl = \"sqlite://{home}/broker.db\"\n\
             [common.table]\nurl = \"sqlite://{home}/table.db\"\n[common.volume]\nurl = \"file://{home}/volume\"\n\
             [[init.topics]]\nname = {:?}\npartitions = 1\n",
            if site == "core" {
                "edge-1.readings"
            } else {
                "readings"
            }
        )
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// The broker of a site that is at rest; nobody else may have it until it is let go.
    pub(crate) async fn broker(&self, site: &str) -> Broker {
        let settings = broker::Settings::url(testkit::sqlite(&self.path(site), "broker.db"));
        let registry = prometheus::Registry::new();
        Broker::open(&settings, "test", &registry).await.unwrap()
    }

    /// Gives the broker back, so that a command can have it.
    pub(crate) async fn let_go(&self, site: &str, broker: Broker) {
        drop(broker);
        testkit::closed(&self.path(site).join("broker.db")).await;
    }

    pub(crate) async fn volume(&self, site: &str) -> Volume {
        let settings = volume::Settings {
            url: testkit::directory(&self.path(site), "volume"),
            ..volume::Settings::default()
        };
        Volume::open(&settings).await.unwrap()
    }

    /// So many readings of about this many bytes at the edge.
    pub(crate) async fn readings(&self, count: u32, size: usize) {
        let broker = self.broker("edge-1").await;
        let records = (0..count).map(|number| {
            let mut value = vec![0; size];
            blake3::Hasher::new()
                .update(&number.to_be_bytes())
                .finalize_xof()
                .fill(&mut value);
            Outgoing::new("readings", number.to_string(), value)
        });
        broker
            .producer()
            .unwrap()
            .send_all(records.collect())
            .await
            .unwrap();
        self.let_go("edge-1", broker).await;
    }

    /// What is in a topic: keys and values in their order.
    pub(crate) async fn contents(&self, site: &str, topic: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found = Vec::new();
        let broker = self.broker(site).await;
        let read = broker.read_to_end(topic, |record| {
            found.push((record.key.unwrap().to_vec(), record.value.unwrap().to_vec()));
        });
        read.await.unwrap();
        self.let_go(site, broker).await;
        found
    }

    /// An asset of the core that the edge has asked for.
    pub(crate) async fn asset(&self, number: u32, size: usize) -> ManifestEntry {
        let mut bytes = vec![0; size];
        blake3::Hasher::new()
            .update(&number.to_le_bytes())
            .finalize_xof()
            .fill(&mut bytes);
        let volume = self.volume("core").await;
        let mut writer = volume.writer().await.unwrap();
        writer.write(&bytes).await.unwrap();
        let asset_id = testkit::asset_id(number);
        let edge = testkit::site("edge-1");
        let entry = ManifestEntry {
            request_id: RequestId::new(&edge, &asset_id, 1),
            asset_id,
            hash: writer.finish().await.unwrap().hash,
            size: size as u64,
            media_type: "application/octet-stream".to_owned(),
            file_name: format!("{number}.bin"),
            entered_at: now_ms(),
            expires_at: None,
        };
        let path = ManifestEntry::path(&edge, &entry.request_id);
        assert!(volume.put_entry(&path, entry.to_json().into()).await.unwrap());
        entry
    }

    /// The words of a bundle's command.
    pub(crate) fn export(&self, from: &str) -> Vec<String> {
        let file = if from == "core" { "core.toml" } else { "edge.toml" };
        let mut words = vec!["bundle".to_owned(), "export".to_owned(), "--config".to_owned()];
        words.extend([self.text(file), "--to".to_owned(), self.text("stick")]);
        if from == "core" {
            words.extend(["--site".to_owned(), "edge-1".to_owned()]);
        }
        words
    }

    pub(crate) fn import(&self, to: &str) -> Vec<String> {
        let file = if to == "core" { "core.toml" } else { "edge.toml" };
        let words = [
            "bundle",
            "import",
            "--config",
            &self.text(file),
            "--from",
            &self.text("stick"),
        ];
        words.map(str::to_owned).to_vec()
    }

    pub(crate) fn do_it(&self, words: &[String]) -> Said {
        command(words).output().unwrap().into()
    }

    /// What is on the stick, each file read and each signature checked; it fails when anything is wrong.
    pub(crate) fn show(&self) -> Said {
        let (stick, ca) = (self.text("stick"), self.text("certs/ca.crt"));
        fieldline(&["bundle", "show", &stick, "--ca", &ca, "--files"])
    }
}
