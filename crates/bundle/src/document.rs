//! The two documents of a stick, as they are signed: the manifest says what a bundle holds, the receipt how far its
//! site has come.
//!
//! A file has two lines: the document as JSON, and the signature of just these bytes. What the signature covers is the
//! whole document, and the document names every segment and object by its hash.

use std::collections::BTreeSet;
use std::path::Path;

use common::budget::Class;
use common::identity::{Signature, Signer, Trust, Vouched};
use common::schemas::{Hash, OffsetSpan, SiteId};
use common::volume::ManifestEntry;
use link::{Direction, Lane};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The format that is written, and the newest that is read.
pub const FORMAT: u32 = 1;

/// What a bundle holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format of the bundle.
    pub format: u32,
    /// The site that made it.
    pub from: SiteId,
    /// The site that it is for.
    pub to: SiteId,
    /// Which way that is.
    pub direction: Direction,
    /// When it was made or added to, in milliseconds since 1970.
    pub created_at: i64,
    /// Whether all that there was is here.
    pub whole: bool,
    /// The topics.
    pub topics: Vec<Carried>,
    /// The assets whose bytes are on the stick.
    pub entries: Vec<ManifestEntry>,
}

/// A topic of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// The route.
    pub route: String,
    /// The topic's name where it was read.
    pub source: String,
    /// Its name where it goes.
    pub destination: String,
    /// The class whose carrier the link has for it; none when one carrier has all.
    pub class: Option<Class>,
    /// Which incarnation of the topic was read.
    pub epoch: String,
    /// Which ones there were before, as far as the source has heard of them: the newest, bounded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<String>,
    /// Whether it keeps the newest record of each key.
    pub compacted: bool,
    /// How long it keeps records, in milliseconds.
    pub retention_ms: Option<i64>,
    /// Its partitions, all of them, in order.
    pub parts: Vec<Part>,
}

impl Carried {
    /// The same as what the link has put aside of it goes: to a topic beside it, by a carrier of its own.
    pub(crate) fn behind(&self, lane: &Lane) -> Self {
        let backlog = lane.backlog();
        Self {
            route: backlog.route,
            destination: backlog.destination,
            class: Some(backlog.class),
            ..self.clone()
        }
    }
}

/// What a bundle has of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The first offset that could be had, here or at the source.
    pub low: i64,
    /// The first offset that is here, as far as there are segments.
    pub begin: i64,
    /// How often the offsets of this very topic went back, as far as the source has heard: they are of that turn.
    #[serde(default, skip_serializing_if = "is_none")]
    pub turn: u64,
    /// What follows, without a gap.
    pub segments: Vec<Segment>,
}

impl Part {
    /// The offset behind what is here.
    pub fn end(&self) -> i64 {
        self.segments.last().map_or(self.begin, |last| last.end)
    }
}

fn is_none(turn: &u64) -> bool {
    *turn == 0
}

/// A file of records: all committed ones of a span of offsets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The BLAKE3 hash of the file, which is its name.
    pub hash: Hash,
    /// The file's size.
    pub bytes: u64,
    /// Its size unpacked.
    pub plain: u64,
    /// How many records it has.
    pub records: u64,
    /// The first offset that it stands for.
    pub begin: i64,
    /// The offset behind the last.
    pub end: i64,
}

/// How far a site has come with what another sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The format of the document.
    pub format: u32,
    /// The site whose records these are.
    pub from: SiteId,
    /// The site that has them, and says so.
    pub to: SiteId,
    /// When it said so, in milliseconds since 1970.
    pub created_at: i64,
    /// Its checkpoints.
    pub positions: Vec<Place>,
}

/// A checkpoint, as far as the sender needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The route.
    pub route: String,
    /// The topic at the sender.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The first offset that has not come.
    pub next: i64,
    /// Of which incarnation.
    pub epoch: String,
    /// How often the offsets of that had gone back.
    #[serde(default, skip_serializing_if = "is_none")]
    pub turn: u64,
    /// What lies before and has not come, the oldest first: the link put it aside as its backlog.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aside: Vec<OffsetSpan>,
}

impl Place {
    /// The first offset that has not come, what was put aside included.
    pub(crate) fn first(&self) -> i64 {
        self.aside
            .first()
            .map_or(self.next, |span| span.from.min(self.next))
    }
}

/// A document that is signed.
pub(crate) trait Document: Serialize + DeserializeOwned {
    /// What it is signed as.
    const PURPOSE: &'static str;
    /// Who must have signed it.
    fn author(&self) -> &SiteId;
    /// What contradicts itself.
    fn check(&self) -> Result<(), String>;
}

impl Document for Manifest {
    const PURPOSE: &'static str = "fieldline bundle manifest";

    fn author(&self) -> &SiteId {
        &self.from
    }

    fn check(&self) -> Result<(), String> {
        format(self.format)?;
        let mut keys = BTreeSet::new();
        for topic in &self.topics {
            if !keys.insert((&topic.route, &topic.source)) {
                return Err(format!(
                    "it names {} of route {} twice",
                    topic.source, topic.route
                ));
            }
            for part in &topic.parts {
                let mut next = part.begin;
                for segment in &part.segments {
                    if segment.begin != next || segment.end <= next {
                        return Err(format!(
                            "the segments of {} do not follow one another",
                            topic.source
                        ));
                    }
                    next = segment.end;
                }
                if part.low > part.begin {
                    return Err(format!("{} begins before its first record", topic.source));
                }
            }
        }
        Ok(())
    }
}

impl Document for Receipt {
    const PURPOSE: &'static str = "fieldline bundle receipt";

    fn author(&self) -> &SiteId {
        &self.to
    }

    fn check(&self) -> Result<(), String> {
        format(self.format)
    }
}

fn format(found: u32) -> Result<(), String> {
    if found == FORMAT {
        Ok(())
    } else {
        Err(format!(
            "its format is {found}, and this release reads {FORMAT}: use the release that made it, or a newer one"
        ))
    }
}

/// The document as a file: its line, and the signature's.
pub(crate) fn signed<D: Document>(document: &D, signer: &Signer) -> Result<Vec<u8>> {
    // Strings, numbers and lists alone: there is nothing that could fail.
    let mut text = serde_json::to_vec(document).unwrap_or_default();
    let signature = signer
        .sign(D::PURPOSE, &text)
        .map_err(|error| Error::Sign(Box::new(error)))?;
    text.push(b'\n');
    text.extend(serde_json::to_vec(&signature).unwrap_or_default());
    text.push(b'\n');
    Ok(text)
}

/// A document as it was read, and what its signature is worth.
#[derive(Debug)]
pub(crate) struct Opened<D> {
    pub(crate) document: D,
    pub(crate) vouched: Vouched,
}

/// The lines of a file: the document and its signature.
pub(crate) fn lines<'a>(path: &Path, text: &'a [u8]) -> Result<(&'a [u8], Signature)> {
    let cut = || Error::document(path, "it is damaged or cut short: it has not two lines of JSON");
    let at = text.iter().position(|byte| *byte == b'\n').ok_or_else(cut)?;
    let (document, signature) = text.split_at(at);
    Ok((document, serde_json::from_slice(signature).map_err(|_| cut())?))
}

/// The document in a file. Nothing of it is looked at before the signature is right.
pub(crate) fn open<D: Document>(path: &Path, text: &[u8], trust: &Trust, now: i64) -> Result<Opened<D>> {
    let (words, signature) = lines(path, text)?;
    let vouched = trust
        .verify(D::PURPOSE, words, &signature, now)
        .map_err(|source| Error::Untrusted {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
    let document: D = parse(path, words)?;
    if *document.author() != vouched.site {
        let why = format!(
            "it says that it is of {}, and {} signed it",
            document.author(),
            vouched.site
        );
        return Err(Error::document(path, why));
    }
    Ok(Opened { document, vouched })
}

/// The document of a line, whoever wrote it.
pub(crate) fn parse<D: Document>(path: &Path, words: &[u8]) -> Result<D> {
    let document: D = serde_json::from_slice(words)
        .map_err(|error| Error::document(path, format!("it cannot be read: {error}")))?;
    document.check().map_err(|why| Error::document(path, why))?;
    Ok(document)
}
