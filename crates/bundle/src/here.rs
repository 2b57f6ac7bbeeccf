//! The site at which a bundle is made or taken in.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use common::broker::{Broker, Watermarks};
use common::chassis::now_ms;
use common::identity::{Signer, Trust, Vouched};
use common::schemas::{Checkpoint, OffsetSpan, SiteId, at_core, topic};
use common::table::Session;
use common::volume::Volume;
use link::{Direction, Lane, Route, checkpoint, expand, found};

use crate::document::{self, Document, Opened, Place, Receipt};
use crate::error::{Error, Result};
use crate::stick::{self, Stick};

/// How often a partition is looked at that seems to end too soon.
const STEP: Duration = Duration::from_millis(500);

/// A site with its engines, its certificate, and what it carries.
#[derive(Debug)]
pub struct Here {
    /// The site.
    pub site: SiteId,
    /// The site that is the core to this one; the same at the core.
    pub core: SiteId,
    /// Its broker.
    pub broker: Broker,
    /// Its tables.
    pub table: Session,
    /// Its volume.
    pub volume: Volume,
    /// Signs in its name.
    pub signer: Signer,
    /// Whom it trusts.
    pub trust: Trust,
    /// What is carried, both ways.
    pub routes: Vec<Route>,
    /// Whether this edge's link has a carrier for each class, and so a transactional id: not where it goes [by records](link::Settings::by_records).
    pub in_classes: bool,
    /// How long topics that are made here keep records.
    pub retention: Duration,
    /// The most bytes that the volume may hold.
    pub quota: Option<u64>,
}

/// What the link has put aside of a partition as its backlog, and nobody has carried since.
pub(crate) fn aside(found: &HashMap<String, Checkpoint>, at: &Checkpoint) -> Vec<OffsetSpan> {
    let key = checkpoint::key(&format!("{}.backlog", at.route), &at.source_topic, at.partition);
    let behind = found
        .get(&key)
        .filter(|behind| behind.source_epoch == at.source_epoch);
    let next = behind.map_or(i64::MIN, |behind| behind.next_offset);
    let left = at.backlog.iter().filter(|span| span.until > next);
    left.map(|span| OffsetSpan {
        from: span.from.max(next),
        until: span.until,
    })
    .collect()
}

/// How many offsets these are.
pub(crate) fn offsets(spans: &[OffsetSpan]) -> u64 {
    let count = |span: &OffsetSpan| u64::try_from(span.until - span.from).unwrap_or(0);
    spans.iter().map(count).sum()
}

/// Where a step is, for people: so much of so much.
#[derive(Debug, Clone)]
pub struct Progress {
    /// What is under way: a topic's partition, an asset's name.
    pub what: String,
    /// How far.
    pub done: u64,
    /// Of how much.
    pub total: u64,
}

/// Who is shown progress.
pub type Shown<'a> = &'a (dyn Fn(Progress) + Send + Sync);

impl Here {
    /// Whether this site is an edge to the other one.
    pub(crate) fn edge_of(&self, peer: &SiteId) -> bool {
        *peer == self.core && self.site != self.core
    }

    /// The edge of the two.
    pub(crate) fn edge<'a>(&'a self, peer: &'a SiteId) -> &'a SiteId {
        if self.edge_of(peer) { &self.site } else { peer }
    }

    /// Which way records go that leave here.
    pub(crate) fn outgoing(&self, peer: &SiteId) -> Direction {
        if self.edge_of(peer) {
            Direction::Up
        } else {
            Direction::Down
        }
    }

    /// The topic of checkpoints that this site and the other share, as destination.
    pub(crate) fn checkpoints(&self, peer: &SiteId) -> String {
        at_core(self.edge(peer), topic::CHECKPOINTS)
    }

    /// Whether topics that go one way are taken up by a pattern.
    pub(crate) fn asks(&self, direction: Direction) -> bool {
        let mut routes = self.routes.iter();
        routes.any(|route| route.direction == direction && route.pattern.is_some())
    }

    /// What goes one way, what is wanted first at the beginning: the topics that routes list, and those of `names` that
    /// they take up by a pattern. What are too many of these is said in `notes`.
    pub(crate) fn lanes(
        &self,
        peer: &SiteId,
        direction: Direction,
        names: &[String],
        notes: &mut Vec<String>,
    ) -> Result<Vec<Lane>> {
        let site = self.edge(peer);
        let lanes = expand(site, &self.routes).map_err(|problems| Error::Routes(problems.join("; ")))?;
        let (taken, too_many) = found::taken(site, &self.routes, direction, names);
        notes.extend(too_many);
        let mut lanes: Vec<Lane> = lanes
            .into_iter()
            .chain(taken)
            .filter(|lane| lane.direction == direction)
            .collect();
        lanes.sort_by_key(|lane| lane.class);
        Ok(lanes)
    }

    /// Whether an edge may exchange bundles with this core, by the certificate it signed with, if it signed.
    pub(crate) async fn admit(&self, peer: &SiteId, vouched: Option<&Vouched>) -> Result<()> {
        if self.edge_of(peer) {
            return Ok(());
        }
        let site = peer.clone();
        let key = [("realm", "core".into()), ("site", peer.as_str().into())];
        let Some(row) = self.table.get("sites", &key).await? else {
            return Err(Error::NotEnrolled { site });
        };
        if row.timestamp("revoked_at").is_some() {
            return Err(Error::Revoked { site });
        }
        if row.timestamp("enrolled_at").is_none() {
            return Err(Error::NotEnrolled { site });
        }
        match vouched {
            Some(vouched) if row.text("certificate_sha256") != Some(vouched.fingerprint.as_str()) => {
                Err(Error::OtherCertificate { site })
            }
            _ => Ok(()),
        }
    }

    /// A signed document, if it is there; of no other purpose, site or authority.
    pub(crate) fn read<D: Document>(&self, path: &Path) -> Result<Option<Opened<D>>> {
        let text = stick::document(path)?;
        text.map(|text| document::open(path, &text, &self.trust, now_ms()))
            .transpose()
    }

    /// The ends of a partition, once they are past `next` or `patience` is used up.
    pub(crate) async fn settled(
        &self,
        topic: &str,
        partition: i32,
        next: i64,
        patience: &mut Duration,
    ) -> Result<Watermarks> {
        loop {
            let marks = self.broker.watermarks(topic, partition).await?;
            if next <= marks.high || patience.is_zero() {
                return Ok(marks);
            }
            let step = STEP.min(*patience);
            tokio::time::sleep(step).await;
            *patience -= step;
        }
    }

    /// How far this site has come with what the other sends.
    pub(crate) async fn found(&self, peer: &SiteId) -> Result<HashMap<String, Checkpoint>> {
        let topic = self.checkpoints(peer);
        if self.broker.describe(&topic).await?.is_none() {
            let site = self.edge(peer).to_string();
            return Err(link::Error::NotEnrolled { topic, site }.into());
        }
        Ok(checkpoint::load(&self.broker, &topic).await?)
    }

    /// Leaves word on the stick how far this site has come, so that the other sends what follows.
    pub(crate) async fn leave_receipt(&self, stick: &mut Stick, peer: &SiteId) -> Result<()> {
        let found = self.found(peer).await?;
        let mut positions: Vec<Place> = found
            .values()
            .map(|at| Place {
                route: at.route.clone(),
                topic: at.source_topic.clone(),
                partition: at.partition,
                next: at.next_offset,
                epoch: checkpoint::topic_id(&at.source_epoch).to_owned(),
                turn: checkpoint::turn(&at.source_epoch),
                aside: aside(&found, at),
            })
            .collect();
        positions.sort_by(|a, b| (&a.route, &a.topic, a.partition).cmp(&(&b.route, &b.topic, b.partition)));
        let receipt = Receipt {
            format: document::FORMAT,
            from: peer.clone(),
            to: self.site.clone(),
            created_at: now_ms(),
            positions,
        };
        let path = stick.receipt(peer, &self.site);
        stick.write(&path, &document::signed(&receipt, &self.signer)?)
    }
}
