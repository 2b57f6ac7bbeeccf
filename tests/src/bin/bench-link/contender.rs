//! Who is compared, and how each is set up for a run of its own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use broker::{Broker, TopicSpec};
use clap::ValueEnum;
use e2e::installation::engine;
use e2e::pair;
use e2e::process::{Process, program};
use schemas::{SiteId, at_core};

use crate::watch::settled_end;

/// One program with one promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Contender {
    /// MirrorMaker 2, exactly once.
    Mm2Exactly,
    /// MirrorMaker 2, at least once.
    Mm2AtLeast,
    /// The link, which knows nothing but exactly once.
    Link,
}

/// What all runs have in common.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The brokers, near.
    pub(crate) edge: Broker,
    pub(crate) core: Broker,
    pub(crate) edge_url: String,
    pub(crate) core_url: String,
    /// The link's program.
    pub(crate) link: PathBuf,
    /// TOML of section `[link]`.
    pub(crate) link_settings: String,
    pub(crate) directory: PathBuf,
}

/// A program at work on one topic; what it has carried before, it knows again when it is started again.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) process: Process,
    /// The topic at the core.
    pub(crate) destination: String,
}

impl Contender {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mm2Exactly => "MM2 exactly",
            Self::Mm2AtLeast => "MM2 at least",
            Self::Link => "link exactly",
        }
    }

    fn mirror_maker(self) -> bool {
        matches!(self, Self::Mm2Exactly | Self::Mm2AtLeast)
    }

    /// The topic's name at the core: both put the source's name before it.
    pub(crate) fn destination(id: &str, topic: &str) -> String {
        format!("{id}.{topic}")
    }

    /// Makes what must be there before the first start of `id`: topics, for both alike.
    pub(crate) async fn enrol(self, setup: &Setup, id: &str, topic: &str) -> Result<()> {
        let destination = Self::destination(id, topic);
        let partitions = setup
            .edge
            .describe(topic)
            .await?
            .context("no source topic")?
            .partitions;
        setup
            .core
            .create_topic(&TopicSpec::new(&destination, partitions))
            .await?;
        if !self.mirror_maker() {
            let site = site(id)?;
            pair::enrol(&site, &setup.core, &setup.edge, &[], &[], partitions).await?;
            ensure!(
                at_core(&site, topic) == destination,
                "{destination}: another name"
            );
        }
        settled_end(&setup.core, &destination, partitions).await?;
        Ok(())
    }

    /// Starts it; `core` is where it finds the core.
    pub(crate) fn start(self, setup: &Setup, id: &str, topic: &str, core: &str) -> Result<Run> {
        let directory = setup.directory.join(id);
        std::fs::create_dir_all(&directory)?;
        let process = if self.mirror_maker() {
            self.start_mirror_maker(setup, id, topic, core, &directory)?
        } else {
            let routes = pair::route("bench", "up", topic, "prefix");
            let settings = pair::settings(&site(id)?, &setup.edge_url, core, &setup.link_settings, &routes);
            pair::start_link(&settings, &directory, Some(&setup.link))?
        };
        Ok(Run {
            process,
            destination: Self::destination(id, topic),
        })
    }

    fn start_mirror_maker(
        self,
        setup: &Setup,
        id: &str,
        topic: &str,
        core: &str,
        directory: &Path,
    ) -> Result<Process> {
        let bare = |url: &str| url.trim_start_matches("kafka://").to_owned();
        // The source's alias names the topics in which it remembers, so each run has one of its own.
        let template = include_str!("../../../../deploy/engines/mirror.properties");
        let mut text = String::new();
        for line in template.lines().filter(|line| !line.starts_with('#')) {
            let line = line.replace("edge->", &format!("{id}->"));
            let line = line.replace("->edge", &format!("->{id}"));
            let line = line.replace("edge.consumer", &format!("{id}.consumer"));
            text += &line.replace("clusters=edge,", &format!("clusters={id},"));
            text.push('\n');
        }
        text += &format!(
            "{id}.bootstrap.servers={}\ncore.bootstrap.servers={}\n{id}->core.topics={topic}\n",
            bare(&setup.edge_url),
            bare(core)
        );
        if self == Self::Mm2Exactly {
            text += &format!(
                "core.exactly.once.source.support=enabled\ndedicated.mode.enable.internal.rest=true\nlisteners=http://127.0.0.1:{}\n",
                testkit::free_port()
            );
        }
        let file = directory.join("mirror.properties");
        std::fs::write(&file, text)?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/engines/engines");
        let words = [
            "mirror",
            &file.display().to_string(),
            "--dir",
            &engine("ENGINES_DIR")?,
        ];
        Process::start(
            "mirror-maker",
            script,
            words.map(str::to_owned).to_vec(),
            directory,
        )
    }
}

fn site(id: &str) -> Result<SiteId> {
    id.parse().map_err(|error| anyhow::anyhow!("{id}: {error}"))
}

/// The link beside this program.
pub(crate) fn built_link() -> Result<PathBuf> {
    program("link")
}
