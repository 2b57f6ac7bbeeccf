//! The bytes of assets: from the core's volume to the stick, and from the stick to the edge's.
//!
//! Every chunk is held against the object's list on both ways, and the list against the object's hash, which the signed
//! manifest names. What is on the stick already is read and kept if it is right.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use common::chassis::now_ms;
use common::schemas::{Hash, SiteId};
use common::volume::{self, CHUNK, Chunks, ManifestEntry, READ_LIMIT, Volume};

use crate::document::{self, Manifest};
use crate::error::{Error, Result};
use crate::here::{Progress, Shown};
use crate::stick::{self, Stick};

/// The largest file of an object, so that it fits on every file system of sticks. Whole chunks.
#[cfg(not(test))]
const PIECE: u64 = 1 << 30;
#[cfg(test)]
const PIECE: u64 = 2 * CHUNK;
/// Entries of one listing.
const LISTED: usize = 1000;

/// What a site has asked for and not got, the smallest first: so that most fits.
pub(crate) async fn open_entries(volume: &Volume, site: &SiteId) -> Result<Vec<ManifestEntry>> {
    let (mut entries, mut after) = (Vec::new(), None::<String>);
    let prefix = ManifestEntry::prefix(site);
    loop {
        let paths = volume.list_entries(&prefix, after.as_deref(), LISTED).await?;
        for path in &paths {
            let entry = volume.get_entry(path).await?;
            // One that cannot be read is told by the depot, for which it was made.
            let entry = entry.and_then(|entry| ManifestEntry::from_json(&entry).ok());
            entries.extend(entry.filter(|entry| !entry.expired(now_ms())));
        }
        match paths.into_iter().last() {
            Some(last) => after = Some(last),
            None => break,
        }
    }
    entries.sort_by(|a, b| (a.size, &a.request_id).cmp(&(b.size, &b.request_id)));
    Ok(entries)
}

fn missing(hash: &Hash) -> Error {
    Error::Volume(volume::Error::Missing { hash: hash.clone() })
}

/// Copies an entry's object to the stick, as far as it is not there.
pub(crate) async fn copy_out(
    volume: &Volume,
    stick: &mut Stick,
    entry: &ManifestEntry,
    shown: Shown<'_>,
) -> Result<()> {
    let (hash, size) = (&entry.hash, entry.size);
    let chunks = volume.chunks(hash).await?.ok_or_else(|| missing(hash))?;
    chunks.verify(hash, size)?;
    let directory = stick.object(hash);
    let list = directory.join("chunks");
    let bytes = chunks.to_bytes();
    if stick::document(&list)?.as_deref() != Some(&bytes[..]) {
        stick.room(bytes.len() as u64)?;
        stick.write(&list, &bytes)?;
    }
    let mut at = 0;
    for number in 0.. {
        let end = (at + PIECE).min(size);
        let path = directory.join(number.to_string());
        if !holds(&path, &chunks, at..end, size) {
            stick.room(end - at)?;
            // A gigabyte at most is in memory nowhere: the file grows, and is renamed when it is whole.
            let mut piece = stick.begin(&path)?;
            let mut from = at;
            while from < end {
                let to = (from + READ_LIMIT / CHUNK * CHUNK).min(end);
                let read = volume.read(hash, from..to).await?;
                check(&chunks, hash, from, size, &read)?;
                piece.write(&read)?;
                from = to;
                shown(Progress {
                    what: entry.file_name.clone(),
                    done: from,
                    total: size,
                });
            }
            stick.end(piece)?;
        }
        at = end;
        if at >= size {
            return Ok(());
        }
    }
    Ok(())
}

/// Whether each chunk of these bytes, which begin at `from`, is the object's.
fn check(chunks: &Chunks, hash: &Hash, from: u64, size: u64, bytes: &[u8]) -> Result<()> {
    let number = from / CHUNK;
    let length = usize::try_from(CHUNK).unwrap_or(usize::MAX);
    match (number..)
        .zip(bytes.chunks(length))
        .find(|(number, chunk)| !chunks.holds(*number, size, chunk))
    {
        Some((number, _)) => Err(Error::Volume(volume::Error::Corrupt {
            hash: hash.clone(),
            what: format!("chunk {number}"),
        })),
        None => Ok(()),
    }
}

/// Whether a file has just these bytes of the object.
fn holds(path: &Path, chunks: &Chunks, range: std::ops::Range<u64>, size: u64) -> bool {
    let Ok(mut file) = File::open(path) else {
        return false;
    };
    if file.metadata().map_or(0, |found| found.len()) != range.end - range.start {
        return false;
    }
    let mut chunk = Vec::new();
    let mut at = range.start;
    while at < range.end {
        chunk.clear();
        let read = (&mut file)
            .take(CHUNK.min(range.end - at))
            .read_to_end(&mut chunk);
        if read.is_err() || !chunks.holds(at / CHUNK, size, &chunk) {
            return false;
        }
        at += chunk.len() as u64;
    }
    true
}

/// Brings an entry's object from the stick into the volume, if it is not there.
pub(crate) async fn copy_in(
    volume: &Volume,
    stick: &Stick,
    entry: &ManifestEntry,
    shown: Shown<'_>,
) -> Result<()> {
    let (hash, size) = (&entry.hash, entry.size);
    if volume.stat(hash).await? == Some(size) {
        return Ok(());
    }
    let directory = stick.object(hash);
    let list = directory.join("chunks");
    let absent = |path: &Path| Error::document(path, "it is missing");
    let damaged =
        |path: &Path| Error::document(path, "it is damaged: its bytes are not those that were signed");
    let chunks = stick::document(&list)?.ok_or_else(|| absent(&list))?;
    let chunks = Chunks::from_bytes(chunks).ok_or_else(|| damaged(&list))?;
    let mut copy = match volume.partial(hash, size, chunks).await {
        Err(volume::Error::Corrupt { .. }) => return Err(damaged(&list)),
        copy => copy?,
    };
    let mut open: Option<(u64, File)> = None;
    while let Some(range) = copy.next_chunk() {
        let number = range.start / PIECE;
        let path = directory.join(number.to_string());
        let failed = |source: std::io::Error| match source.kind() {
            ErrorKind::NotFound => absent(&path),
            ErrorKind::UnexpectedEof => damaged(&path),
            _ => Error::stick("read", &path)(source),
        };
        let mut file = match open.take() {
            Some((known, file)) if known == number => file,
            _ => {
                let mut file = File::open(&path).map_err(failed)?;
                file.seek(SeekFrom::Start(range.start % PIECE)).map_err(failed)?;
                file
            }
        };
        let mut chunk = vec![0; usize::try_from(range.end - range.start).unwrap_or(0)];
        file.read_exact(&mut chunk).map_err(failed)?;
        match copy.append(&chunk).await {
            Err(volume::Error::Corrupt { .. }) => return Err(damaged(&path)),
            done => done?,
        }
        open = Some((number, file));
        if copy.verified() % READ_LIMIT == 0 || copy.verified() == size {
            shown(Progress {
                what: entry.file_name.clone(),
                done: copy.verified(),
                total: size,
            });
        }
    }
    Ok(copy.publish().await?)
}

/// Removes objects that no bundle on the stick names.
pub(crate) fn sweep(stick: &mut Stick) -> Result<()> {
    let mut named = BTreeSet::new();
    for (from, to) in stick.bundles()? {
        let path = stick.manifest(&from, &to);
        let Some(text) = stick::document(&path)? else {
            continue;
        };
        // A manifest that cannot be read may name any of them.
        let Ok((words, _)) = document::lines(&path, &text) else {
            return Ok(());
        };
        let Ok(manifest) = document::parse::<Manifest>(&path, words) else {
            return Ok(());
        };
        named.extend(manifest.entries.into_iter().map(|entry| entry.hash));
    }
    let objects = stick.objects();
    for name in stick::names(&objects)? {
        if name.parse::<Hash>().is_ok_and(|hash| !named.contains(&hash)) {
            stick.remove(&objects.join(name))?;
        }
    }
    Ok(())
}

/// The file of an object that is missing or not what it should be.
pub(crate) fn damage(stick: &Stick, entry: &ManifestEntry) -> Result<Option<String>> {
    let (hash, size) = (&entry.hash, entry.size);
    let directory = stick.object(hash);
    let list = directory.join("chunks");
    let chunks = stick::document(&list)?.and_then(Chunks::from_bytes);
    let Some(chunks) = chunks.filter(|chunks| chunks.verify(hash, size).is_ok()) else {
        return Ok(Some(format!("{}: it is missing or damaged", list.display())));
    };
    let mut at = 0;
    for number in 0.. {
        let end = (at + PIECE).min(size);
        let path = directory.join(number.to_string());
        if !holds(&path, &chunks, at..end, size) {
            return Ok(Some(format!("{}: it is missing or damaged", path.display())));
        }
        at = end;
        if at >= size {
            break;
        }
    }
    Ok(None)
}
