//! `fieldline link offsets`: consumer groups that move to the other side of the link.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::{Args, ValueEnum};
use common::broker::{self, Broker};
use common::chassis::Config;
use common::control::{Connected, connected};
use link::moves::{self, Move, Side, Sides};
use link::{Direction, Far, Lane, Link, Settings};
use serde_json::json;

use crate::output::{bytes, line, show, table};

/// So many bytes of the far side are read without asking.
const UNASKED: u64 = 10_000_000;

/// Show where consumer groups' positions are on the other side of the link, and commit them there. Stop the groups
/// first; with an embedded broker at the edge, the site too.
#[derive(Debug, Args)]
pub(crate) struct LinkOffsets {
    /// The edge's settings file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The group; all groups unless told.
    #[arg(long, required_if_eq("apply", "true"))]
    group: Option<String>,
    /// The side that the group comes from.
    #[arg(long, default_value = "edge")]
    from: From,
    /// Commit the positions on the other side, for a group that has no members on either side.
    #[arg(long)]
    apply: bool,
    /// Read the core's checkpoints though they may be more than 10 MB, or their bytes cost money.
    #[arg(long)]
    yes: bool,
    /// Print JSON for scripts instead of text.
    #[arg(long)]
    json: bool,
}

/// A side of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum From {
    /// This edge.
    Edge,
    /// The core.
    Core,
}

/// An edge's link as its settings describe it: its routes, and both brokers.
pub(crate) struct Ends {
    pub(crate) sides: Sides,
    pub(crate) lanes: Vec<Lane>,
    /// Kept: the brokers read the certificates again whenever they connect.
    pub(crate) link: Connected<Settings>,
}

impl Ends {
    /// Refuses to read what nobody has agreed to: `cost` in an operator's words, so many bytes of the far side.
    pub(crate) fn agreed(&self, yes: bool, bytes: u64, cost: &str) -> Result<()> {
        let metered = self.link.settings.budget.metered && bytes > 0;
        ensure!(
            yes || (bytes <= UNASKED && !metered),
            "this reads {cost}, over the link\nhint: --yes does it"
        );
        Ok(())
    }

    /// What the checkpoints at the core weigh that are read with the lanes going there.
    pub(crate) async fn checkpoints(&self) -> Result<u64> {
        let mut weight = 0;
        for direction in [Direction::Up, Direction::Down] {
            if self.lanes.iter().any(|lane| lane.direction == direction) {
                weight += self.sides.weight_of_histories(direction).await?;
            }
        }
        Ok(weight)
    }
}

/// Opens both brokers of an edge's link, the core's by a way that is under the link's budget; `asked` is whether its bytes
/// may cost money.
///
/// # Errors
/// When a broker cannot be opened, or nothing may cross the link now.
pub(crate) async fn open(config: &Path, asked: bool) -> Result<Ends> {
    Box::pin(ends(config, asked)).await
}

async fn ends(config: &Path, asked: bool) -> Result<Ends> {
    let read = Config::read(Some(config), common::chassis::environment())
        .with_context(|| format!("cannot read the settings of {}", config.display()))?;
    let loaded = read.load::<Link>()?;
    let link = connected::<Link>(loaded.settings, &loaded.host.site).map_err(|problem| {
        anyhow!("this site is not connected to a core: {problem}\nhint: give it its enrolment, or set link.core.url")
    })?;
    let (site, settings) = (loaded.host.site.parse()?, link.settings.clone());
    let registry = prometheus::Registry::new;
    let edge = match Broker::open(&settings.broker, "fieldline", &registry()).await {
        Err(broker::Error::Locked { path, holder }) => bail!(
            "the edge's broker {} is in use by {holder}\nhint: an embedded broker has one owner; stop the site, run this again, and start it",
            path.display()
        ),
        other => other.context("this edge's broker")?,
    };
    let far = Far::open(&settings, asked).await?;
    if let Some(why) = far.as_ref().and_then(Far::held) {
        bail!(
            "nothing may be read over the link now: {why}\nhint: on a metered link --yes does it; else wait, or change what holds it"
        );
    }
    let core = match &far {
        Some(_) => Broker::open_at_need(&settings.core, "fieldline", &registry()).await,
        None => Broker::open(&settings.core, "fieldline", &registry()).await,
    };
    let core = match core {
        Err(broker::Error::Locked { path, holder }) => bail!(
            "the core's broker {} is in use by {holder}\nhint: an embedded broker has one owner; stop the site, run this again, and start it",
            path.display()
        ),
        other => other.context("the core's broker")?,
    };
    let sides = Sides {
        site,
        edge,
        core,
        far,
    };
    let lanes = link::found::lanes(&sides, &settings.routes()).await?;
    Ok(Ends { sides, lanes, link })
}

/// `fieldline link offsets`.
pub(crate) async fn run(wish: &LinkOffsets) -> Result<()> {
    let ends = open(&wish.config, wish.yes).await?;
    let from = match wish.from {
        From::Edge => Side::Edge,
        From::Core => Side::Core,
    };
    let weight = ends.checkpoints().await?;
    let cost = format!("at most {} of checkpoints", bytes(weight));
    ends.agreed(wish.yes, weight, &cost)?;
    if let Some(far) = ends.sides.far.as_ref().filter(|_| !wish.json) {
        line(format!("reading {cost}, {}", far.says()));
    }
    let survey = moves::survey(&ends.sides, &ends.lanes, from, wish.group.as_deref()).await?;
    let applied = if wish.apply {
        Some(moves::apply(&ends.sides, from, &survey).await?)
    } else {
        None
    };
    let answer = json!({
        "site": ends.sides.site,
        "from": from,
        "to": from.other(),
        "positions": survey.moves,
        "in_use": survey.in_use,
        "applied": applied,
    });
    show(wish.json, &answer, |_| {
        if survey.moves.is_empty() {
            line("no group has committed a position in a topic that the link carries");
        } else {
            let rows: Vec<_> = survey.moves.iter().map(row).collect();
            table(&["GROUP", "AT", "COMMITTED", "OTHER SIDE", "POSITION", ""], &rows);
        }
        for (group, members) in &survey.in_use {
            line(format!("{group} is in use by {}", members.join(", ")));
        }
        match applied {
            Some(count) => line(format!("{count} positions are committed on the other side")),
            None if !survey.moves.is_empty() => line("nothing is committed; --group and --apply do that"),
            None => {}
        }
    });
    Ok(())
}

fn row(found: &Move) -> Vec<String> {
    let note = match (&found.note, found.exact) {
        (Some(note), _) => note.clone(),
        (None, true) => "exact".to_owned(),
        (None, false) => String::new(),
    };
    vec![
        found.group.clone(),
        format!("{}/{}", found.topic, found.partition),
        found.committed.to_string(),
        format!("{}/{}", found.other_topic, found.partition),
        found.position.map_or_else(|| "–".to_owned(), |at| at.to_string()),
        note,
    ]
}
