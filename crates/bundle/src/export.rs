//! Bringing the bundle on a stick up to date with what the other site has not got.
//!
//! After each segment the manifest is written anew and signed, so what is on the stick is a bundle at every moment,
//! wherever the export ended. The next export keeps what is there and whole, and goes on behind it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use common::broker::{Cleanup, Watermarks};
use common::chassis::now_ms;
use common::schemas::{OffsetSpan, RequestId, SiteId};
use common::telemetry::chain;
use common::volume::ManifestEntry;
use serde::Serialize;

use crate::document::{self, Carried, FORMAT, Manifest, Place, Receipt};
use crate::error::{Error, Result};
use crate::here::{Here, Progress, Shown, offsets};
use crate::objects;
use crate::plan::{before, plan, turn};
use crate::scribe::Scribe;
use crate::stick::{self, Stick};

/// The manifest is written anew when so many bytes of assets are on the stick that it does not name.
const UNSAID: u64 = 256 << 20;

/// How long partitions are watched that seem to end before where they were: a broker that just came up may still be catching
/// up with itself.
const SETTLE: Duration = Duration::from_secs(5);

/// How many former incarnations of a topic a bundle names.
const FORMER: usize = 8;

/// From where on the other site is sent records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Since {
    /// From where its receipt on the stick says; from the beginning without one.
    #[default]
    Receipt,
    /// From where its receipt in this file says.
    File(PathBuf),
    /// From the beginning.
    Beginning,
}

/// What an export left on the stick.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// Whether all that there was is there.
    pub whole: bool,
    /// Records on the stick.
    pub records: u64,
    /// Those of them that were there before.
    pub kept: u64,
    /// Assets on the stick.
    pub assets: u64,
    /// About how many records did not fit.
    pub records_left: u64,
    /// Assets that did not fit, and their bytes.
    pub assets_left: u64,
    /// The bytes of those.
    pub bytes_left: u64,
    /// What was done otherwise than it might have been, in an operator's words.
    pub notes: Vec<String>,
    /// What could not be had, in an operator's words.
    pub problems: Vec<String>,
}

/// Brings the bundle for a site up to date.
///
/// # Errors
/// When it cannot be made; a stick that is full is no error, but said in the result.
pub async fn export(
    here: &Here,
    to: &SiteId,
    stick: &mut Stick,
    since: &Since,
    shown: Shown<'_>,
) -> Result<Exported> {
    here.admit(to, None).await?;
    let mut work = Work::open(here, to, stick, since).await?;
    let left = work.records(shown).await?;
    work.exported.records_left = left;
    if !here.edge_of(to) {
        work.assets(shown).await?;
    }
    work.finish().await
}

impl Exported {
    /// Says what is gone here of what the link has put aside of a partition.
    fn gone(&mut self, to: &SiteId, place: &Place, marks: Watermarks) {
        let below = |span: &OffsetSpan| OffsetSpan {
            from: span.from,
            until: span.until.min(marks.low).max(span.from),
        };
        let gone: Vec<OffsetSpan> = place.aside.iter().map(below).collect();
        let count = offsets(&gone);
        if count > 0 {
            self.notes.push(format!(
                "{}/{}: about {count} records that the link with {to} had put aside are gone here: it counts them as lost when it \
                 works again",
                place.topic, place.partition
            ));
        }
    }
}

/// The incarnations that a topic had before: those that were on this stick, or that the other site has records of.
fn former(id: &str, there: Option<&Carried>, places: &[&Place]) -> Vec<String> {
    let mut former: Vec<String> = Vec::new();
    let named = there
        .iter()
        .flat_map(|there| there.former.iter().chain([&there.epoch]));
    for epoch in named.chain(places.iter().map(|place| &place.epoch)) {
        if !epoch.is_empty() && epoch != id && !former.contains(epoch) {
            former.push(epoch.clone());
        }
    }
    former.split_off(former.len().saturating_sub(FORMER))
}

struct Work<'a> {
    here: &'a Here,
    stick: &'a mut Stick,
    manifest: Manifest,
    /// Where each partition ends at the source, in the order of the manifest.
    highs: Vec<Vec<i64>>,
    exported: Exported,
}

impl<'a> Work<'a> {
    async fn open(here: &'a Here, to: &SiteId, stick: &'a mut Stick, since: &Since) -> Result<Self> {
        let mut exported = Exported::default();
        let receipt = receipt(here, to, stick, since, &mut exported.notes)?;
        let places = receipt.map(|receipt| receipt.positions).unwrap_or_default();
        let old = match here.read::<Manifest>(&stick.manifest(&here.site, to)) {
            Ok(found) => found.map(|found| found.document),
            Err(error) => {
                exported
                    .notes
                    .push(format!("the bundle is made anew: {}", chain(&error)));
                None
            }
        };
        let old = old.filter(|old| old.from == here.site && old.to == *to);
        let direction = here.outgoing(to);
        let directory = stick.bundle(&here.site, to);
        let (mut topics, mut highs, mut patience) = (Vec::new(), Vec::new(), SETTLE);
        let names = if here.asks(direction) {
            here.broker.topic_names().await?
        } else {
            Vec::new()
        };
        for lane in here.lanes(to, direction, &names, &mut exported.notes)? {
            let Some(topic) = here.broker.describe(&lane.source).await? else {
                exported
                    .problems
                    .push(format!("there is no topic {} here", lane.source));
                continue;
            };
            let same = |old: &&Carried| (&old.route, &old.source) == (&lane.route, &lane.source);
            let there = old.iter().flat_map(|old| &old.topics).find(same);
            let places: Vec<&Place> = (places.iter())
                .filter(|place| (&place.route, &place.topic) == (&lane.route, &lane.source))
                .collect();
            let former = former(&topic.id, there, &places);
            let there = there.filter(|there| there.epoch == topic.id);
            let (mut parts, mut ends) = (Vec::new(), Vec::new());
            for partition in 0..topic.partitions {
                // An epoch that was not known when the receipt was written says nothing.
                let known = (places.iter().copied())
                    .find(|place| place.partition == partition)
                    .filter(|place| place.epoch == topic.id || place.epoch.is_empty());
                let there = usize::try_from(partition)
                    .ok()
                    .and_then(|at| there?.parts.get(at));
                let before = before(known, there);
                let marks = here
                    .settled(&lane.source, partition, before.1, &mut patience)
                    .await?;
                let turn = turn(before, marks.high);
                // Of the turns before nothing counts any more.
                let now = known.filter(|place| place.turn == turn);
                if let Some(place) = now {
                    exported.gone(to, place, marks);
                } else if let Some(place) = known {
                    exported.notes.push(format!(
                        "{}/{partition}: its offsets went back: {to} was at {}, and it ends at {} or did so since. All is sent from \
                         its beginning, as another turn; what came before and was not carried may be lost",
                        lane.source, place.next, marks.high
                    ));
                }
                let wanted = now.filter(|_| *since != Since::Beginning);
                let part = plan(turn, wanted.map(Place::first), marks, there, |segment| {
                    let path = directory.join(format!("{}.segment", segment.hash));
                    stick::whole(&path, segment.bytes, &segment.hash).is_ok()
                });
                exported.kept += part.segments.iter().map(|segment| segment.records).sum::<u64>();
                parts.push(part);
                ends.push(marks.high);
            }
            topics.push(Carried {
                route: lane.route,
                source: lane.source,
                destination: lane.destination,
                class: here.in_classes.then_some(lane.class),
                epoch: topic.id,
                former,
                compacted: topic.cleanup == Cleanup::Compact,
                retention_ms: topic.retention.and_then(|kept| kept.as_millis().try_into().ok()),
                parts,
            });
            highs.push(ends);
        }
        let manifest = Manifest {
            format: FORMAT,
            from: here.site.clone(),
            to: to.clone(),
            direction,
            created_at: now_ms(),
            whole: false,
            topics,
            entries: old.map(|old| old.entries).unwrap_or_default(),
        };
        let mut work = Self {
            here,
            stick,
            manifest,
            highs,
            exported,
        };
        // A bundle that is there is not touched before its successor is: what it names stays until then.
        work.write()?;
        work.sweep()?;
        Ok(work)
    }

    fn write(&mut self) -> Result<()> {
        self.manifest.created_at = now_ms();
        let path = self.stick.manifest(&self.manifest.from, &self.manifest.to);
        let text = document::signed(&self.manifest, &self.here.signer)?;
        self.stick.write(&path, &text)
    }

    /// Removes segments that the manifest does not name.
    fn sweep(&mut self) -> Result<()> {
        let directory = self.stick.bundle(&self.manifest.from, &self.manifest.to);
        let named: BTreeSet<String> = (self.manifest.topics.iter())
            .flat_map(|topic| &topic.parts)
            .flat_map(|part| &part.segments)
            .map(|segment| format!("{}.segment", segment.hash))
            .collect();
        for name in stick::names(&directory)? {
            if (name.ends_with(".segment") && !named.contains(&name)) || name.ends_with(".partial") {
                self.stick.remove(&directory.join(name))?;
            }
        }
        Ok(())
    }

    /// Adds what has come since; says about how many records did not fit.
    async fn records(&mut self, shown: Shown<'_>) -> Result<u64> {
        let mut left = 0;
        let mut full = false;
        for topic in 0..self.manifest.topics.len() {
            for partition in 0..self.highs[topic].len() {
                if !full {
                    match self.partition(topic, partition, shown).await {
                        Err(Error::Full { .. }) => full = true,
                        done => done?,
                    }
                }
                let behind =
                    self.highs[topic][partition] - self.manifest.topics[topic].parts[partition].end();
                left += u64::try_from(behind).unwrap_or(0);
            }
        }
        Ok(left)
    }

    async fn partition(&mut self, topic: usize, partition: usize, shown: Shown<'_>) -> Result<()> {
        let high = self.highs[topic][partition];
        let source = self.manifest.topics[topic].source.clone();
        let begin = self.manifest.topics[topic].parts[partition].end();
        if begin >= high {
            return Ok(());
        }
        let number = i32::try_from(partition).unwrap_or(i32::MAX);
        let mut scribe = Scribe::open(&self.here.broker, &source, number, begin, high).await?;
        while let Some(pen) = scribe.segment().await? {
            let end = if scribe.done { high } else { pen.next() };
            let packed = tokio::task::spawn_blocking(move || pen.finish(end)).await;
            let path = self.stick.bundle(&self.manifest.from, &self.manifest.to);
            let packed = packed.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            let (segment, file) = packed.map_err(Error::stick("pack records for", &path))?;
            let path = path.join(format!("{}.segment", segment.hash));
            // The manifest is written once more beside the old one, and grows.
            self.stick.room(segment.bytes + 2048)?;
            self.stick.write(&path, &file)?;
            self.manifest.topics[topic].parts[partition]
                .segments
                .push(segment);
            if let Err(error) = self.write() {
                self.manifest.topics[topic].parts[partition].segments.pop();
                self.stick.remove(&path)?;
                return Err(error);
            }
            shown(Progress {
                what: format!("{source}/{partition}"),
                done: u64::try_from(end - begin).unwrap_or(0),
                total: u64::try_from(high - begin).unwrap_or(0),
            });
            if scribe.done {
                break;
            }
        }
        Ok(())
    }

    async fn assets(&mut self, shown: Shown<'_>) -> Result<()> {
        let (here, to) = (self.here, self.manifest.to.clone());
        let open = objects::open_entries(&here.volume, &to).await?;
        // What was delivered makes room first.
        let wanted: BTreeSet<&RequestId> = open.iter().map(|entry| &entry.request_id).collect();
        self.manifest
            .entries
            .retain(|entry| wanted.contains(&entry.request_id));
        self.write()?;
        objects::sweep(self.stick)?;
        let named = self.manifest.entries.iter().map(|entry| entry.request_id.clone());
        let mut named: BTreeSet<RequestId> = named.collect();
        let mut there = BTreeSet::new();
        let mut unsaid = 0;
        for entry in open {
            let copied = if there.contains(&entry.hash) {
                Ok(())
            } else {
                objects::copy_out(&here.volume, self.stick, &entry, shown).await
            };
            match copied {
                Ok(()) => {
                    unsaid += entry.size;
                    there.insert(entry.hash.clone());
                    if named.insert(entry.request_id.clone()) {
                        self.manifest.entries.push(entry);
                    }
                    if unsaid > UNSAID {
                        self.write()?;
                        unsaid = 0;
                    }
                }
                Err(Error::Full { .. }) => {
                    self.exported.assets_left += 1;
                    self.exported.bytes_left += entry.size;
                    let path = self.stick.object(&entry.hash);
                    self.stick.remove(&path)?;
                    self.unname(&entry);
                }
                Err(Error::Volume(error)) => {
                    let problem = format!(
                        "asset {} ({}): {}",
                        entry.asset_id,
                        entry.file_name,
                        chain(&error)
                    );
                    self.exported.problems.push(problem);
                    self.unname(&entry);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn unname(&mut self, gone: &ManifestEntry) {
        let entries = &mut self.manifest.entries;
        entries.retain(|entry| entry.request_id != gone.request_id);
    }

    async fn finish(mut self) -> Result<Exported> {
        let exported = &mut self.exported;
        let left = exported.records_left + exported.assets_left;
        self.manifest.whole = left == 0 && exported.problems.is_empty();
        match self.write() {
            // Without its last word the bundle says of itself that it is not whole, which is true of it.
            Err(Error::Full { .. }) => self.manifest.whole = false,
            done => done?,
        }
        objects::sweep(self.stick)?;
        match self.here.leave_receipt(self.stick, &self.manifest.to).await {
            // Nothing has ever come from there; or the receipt has no room, and what was sent is sent again.
            Ok(()) | Err(Error::Link(link::Error::NotEnrolled { .. }) | Error::Full { .. }) => {}
            Err(error) => return Err(error),
        }
        let parts = self.manifest.topics.iter().flat_map(|topic| &topic.parts);
        let segments = parts.flat_map(|part| &part.segments);
        Ok(Exported {
            whole: self.manifest.whole,
            records: segments.map(|segment| segment.records).sum(),
            assets: self.manifest.entries.len() as u64,
            ..self.exported
        })
    }
}

/// How far the other site has come, as far as that is known.
fn receipt(
    here: &Here,
    to: &SiteId,
    stick: &Stick,
    since: &Since,
    notes: &mut Vec<String>,
) -> Result<Option<Receipt>> {
    let receipt = match since {
        // It may still say of which incarnation of a topic it has records.
        Since::Beginning => {
            let found = here
                .read::<Receipt>(&stick.receipt(&here.site, to))
                .ok()
                .flatten();
            let found = found.map(|found| found.document);
            return Ok(found.filter(|found| found.from == here.site && found.to == *to));
        }
        Since::File(path) => {
            let missing = || Error::document(path, "there is no such file");
            Some(here.read::<Receipt>(path)?.ok_or_else(missing)?.document)
        }
        Since::Receipt => match here.read::<Receipt>(&stick.receipt(&here.site, to)) {
            Ok(found) => found.map(|found| found.document),
            Err(error) => {
                notes.push(format!("all is sent from its beginning: {}", chain(&error)));
                None
            }
        },
    };
    let Some(receipt) = receipt else {
        return Ok(None);
    };
    if receipt.from != here.site || receipt.to != *to {
        let path = match since {
            Since::File(path) => path.clone(),
            _ => stick.receipt(&here.site, to),
        };
        let why = format!(
            "it is the receipt of {} for {}, not of {to} for {}",
            receipt.to, receipt.from, here.site
        );
        return Err(Error::document(&path, why));
    }
    Ok(Some(receipt))
}
