//! One object, from the depot into the volume.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::chassis::Stop;
use common::control::Control;
use common::schemas::Hash;
use common::volume::{self, CHUNK, Chunks, Donors, Kin, ManifestEntry, Partial, Volume};
use tokio::sync::{OnceCell, RwLock};

use crate::depot::Depot;
use crate::error::{Error, Result};
use crate::lanes::Lane;
use crate::pace::Pace;
use crate::progress::{Portion, Progress};
use crate::room::Room;

/// The most copies that stay open between two tries, so that they need not be verified from the disk again.
const UNFINISHED: usize = 16;
/// What the volume must take before more is fetched for it: more than the list of an asset of 1 GiB.
const PROBE: usize = 1 << 20;

/// Over what a copy comes, and what ends it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way<'a> {
    pub(crate) depot: &'a Depot,
    pub(crate) lane: Option<&'a Lane<'a>>,
    pub(crate) stop: &'a Stop,
}

/// What copies share.
#[derive(Debug)]
pub(crate) struct Copier {
    pub(crate) volume: Volume,
    pub(crate) control: Control,
    pub(crate) pace: Pace,
    pub(crate) request_bytes: u64,
    pub(crate) room: Room,
    /// What is here, to find chunks that need not be sent; read when it is needed first.
    pub(crate) kin: OnceCell<RwLock<Kin>>,
    pub(crate) unfinished: Mutex<HashMap<Hash, Partial>>,
    /// What was begun and is not whole. Of these also an object of one chunk is asked for by itself.
    pub(crate) begun: Mutex<HashSet<Hash>>,
}

impl Copier {
    /// The most bytes that one request asks for. Under a cap of one's own it is what two seconds allow, so that what the
    /// system buffers does not come as one burst.
    pub(crate) fn request_bytes(wanted: u64, cap: Option<u64>) -> u64 {
        let wanted = cap.map_or(wanted, |cap| wanted.min(cap.saturating_mul(2)));
        (wanted / CHUNK).max(1) * CHUNK
    }

    /// Brings the object here, or finds that it is here; then it is whole, verified and durable. Goes on where an
    /// earlier try stopped, at the very byte.
    pub(crate) async fn bring(&self, way: Way<'_>, entry: &ManifestEntry, progress: &Progress) -> Result<()> {
        let mut portion = progress.portion();
        let local = |source| Error::Volume { source };
        if self.volume.stat(&entry.hash).await.map_err(local)?.is_some() {
            portion.had(entry.size);
        } else {
            let place = self.room.take(entry.size)?;
            let copied = self.copy(way, entry, progress, &mut portion).await;
            if let Err(error) = copied {
                return Err(self.whose(error, way.depot, portion.moved(), way.stop).await);
            }
            place.fill();
        }
        self.begun_ones().remove(&entry.hash);
        portion.keep();
        Ok(())
    }

    /// Keeps what came of an object of one chunk when an answer for many ended in the middle of it. It is begun also when
    /// nothing came: asked for by itself it goes on at the very byte, and shows whether every answer breaks off at it.
    pub(crate) async fn begin(&self, entry: &ManifestEntry, bytes: &[u8], progress: &Progress) {
        self.begun_ones().insert(entry.hash.clone());
        let Some(chunks) = Chunks::single(&entry.hash).filter(|_| !bytes.is_empty()) else {
            return;
        };
        progress.received(bytes.len());
        let begin = async {
            let mut partial = self.volume.partial(&entry.hash, entry.size, chunks).await?;
            // An earlier process may have left as much, or more.
            let here = usize::try_from(partial.missing().start).unwrap_or(usize::MAX);
            partial.take(bytes.get(here..).unwrap_or_default()).await?;
            progress.portion().add(0);
            self.put_aside(&entry.hash, partial).await;
            Ok::<_, volume::Error>(())
        };
        if let Err(error) = begin.await {
            tracing::debug!(hash = %entry.hash, %error, "the beginning of an object is lost");
        }
    }

    /// Whether the object goes on with what is here of it.
    pub(crate) fn begun(&self, hash: &Hash) -> bool {
        self.begun_ones().contains(hash)
    }

    /// Tries whether the volume takes bytes, with none of the depot's; nothing of it stays.
    pub(crate) async fn probe(&self) -> Result<()> {
        let local = |source| Error::Volume { source };
        self.volume.ping().await.map_err(local)?;
        let mut writer = self.volume.writer().await.map_err(local)?;
        writer.write(&vec![0; PROBE]).await.map_err(local)
    }

    /// Forgets what is here of an object that is not wanted; at worst it lies in staging until it is.
    pub(crate) async fn forget(&self, entry: &ManifestEntry) {
        drop(self.unfinished().remove(&entry.hash));
        self.begun_ones().remove(&entry.hash);
        if let Err(error) = self.volume.forget(&entry.hash).await {
            tracing::debug!(hash = %entry.hash, %error, "partial copy stays");
        }
    }

    /// Leaves every copy on the disk as far as it has come.
    pub(crate) async fn put_down(&self) {
        let all: Vec<_> = self.unfinished().drain().collect();
        for (hash, partial) in all {
            keep(&hash, partial).await;
        }
    }

    fn unfinished(&self) -> MutexGuard<'_, HashMap<Hash, Partial>> {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begun_ones(&self) -> MutexGuard<'_, HashSet<Hash>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a copy open until it goes on, if not too many are; else on the disk.
    async fn put_aside(&self, hash: &Hash, partial: Partial) {
        if self.unfinished().len() < UNFINISHED {
            self.unfinished().insert(hash.clone(), partial);
        } else {
            keep(hash, partial).await;
        }
    }

    async fn copy(
        &self,
        way: Way<'_>,
        entry: &ManifestEntry,
        progress: &Progress,
        portion: &mut Portion<'_>,
    ) -> Result<()> {
        let known = self.unfinished().remove(&entry.hash);
        let mut partial = match known {
            Some(partial) => partial,
            None => self.open(way.depot, entry, way.stop).await?,
        };
        portion.had(partial.verified());
        let filled = self.fill(way, entry, &mut partial, progress, portion).await;
        if let Err(error) = filled {
            self.begun_ones().insert(entry.hash.clone());
            match error {
                Error::Cut { .. } | Error::Away { .. } | Error::Busy { .. } => {
                    self.put_aside(&entry.hash, partial).await;
                }
                _ => keep(&entry.hash, partial).await,
            }
            return Err(error);
        }
        if let Some(lane) = way.lane {
            lane.free();
        }
        let list = partial.chunks().clone();
        partial
            .publish()
            .await
            .map_err(|source| Error::Volume { source })?;
        if let Some(kin) = self.kin.get() {
            kin.write().await.add(&entry.hash, &list);
        }
        Ok(())
    }

    async fn open(&self, depot: &Depot, entry: &ManifestEntry, stop: &Stop) -> Result<Partial> {
        let alone = Chunks::single(&entry.hash).filter(|_| entry.size <= CHUNK);
        let chunks = match alone {
            Some(chunks) => chunks,
            None => stop
                .run_until_cancelled(depot.chunks(entry))
                .await
                .ok_or(Error::Stopped)??,
        };
        let opened = self.volume.partial(&entry.hash, entry.size, chunks).await;
        opened.map_err(|source| self.bad(source))
    }

    /// What is here already, or else over the network, until nothing is missing.
    async fn fill(
        &self,
        way: Way<'_>,
        entry: &ManifestEntry,
        partial: &mut Partial,
        progress: &Progress,
        portion: &mut Portion<'_>,
    ) -> Result<()> {
        let local = |source| Error::Volume { source };
        let Way { depot, lane, stop } = way;
        let donors = self.donors(entry, partial).await;
        loop {
            if let Some(donors) = &donors {
                let given = donors.give(&self.volume, partial).await.map_err(local)?;
                portion.had(given);
                self.control
                    .count("bytes_reused", i64::try_from(given).unwrap_or(i64::MAX));
            }
            let missing = partial.missing();
            if missing.is_empty() {
                return Ok(());
            }
            let gap = match &donors {
                Some(donors) => donors.gap(missing),
                None => missing,
            };
            let end = gap.end.min(gap.start.saturating_add(self.request_bytes));
            let mut at = gap.start;
            let body = depot.range(entry, gap.start..end);
            let mut body = stop.run_until_cancelled(body).await.ok_or(Error::Stopped)??;
            while at < end {
                let bytes = stop
                    .run_until_cancelled(body.next())
                    .await
                    .ok_or(Error::Stopped)??;
                at += bytes.len() as u64;
                if let Some(lane) = lane.filter(|_| end == entry.size && body.soon_over(end - at)) {
                    lane.free();
                }
                progress.received(bytes.len());
                let Some(verified) = partial.take(&bytes).await.map_err(|source| self.bad(source))? else {
                    // What an earlier process left of a chunk was not right; it is asked for again.
                    break;
                };
                portion.add(verified);
                stop.run_until_cancelled(self.pace.pay(bytes.len()))
                    .await
                    .ok_or(Error::Stopped)?;
            }
        }
    }

    /// Objects here that may have chunks of this one.
    async fn donors(&self, entry: &ManifestEntry, partial: &Partial) -> Option<Donors> {
        if entry.size <= CHUNK || partial.missing().is_empty() {
            return None;
        }
        let kin = self
            .kin
            .get_or_init(|| async { RwLock::new(self.kin().await) })
            .await;
        let find = async || {
            let kin = kin.read().await;
            kin.donors(&self.volume, &entry.hash, partial.chunks()).await
        };
        let donors = find().await;
        if !donors.outdated() {
            return Some(donors);
        }
        // Something was evicted. Few things are, and each once.
        let anew = self.kin().await;
        *kin.write().await = anew;
        Some(find().await)
    }

    /// What is here, by its chunks.
    async fn kin(&self) -> Kin {
        Kin::of(&self.volume).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot tell which chunks are here already");
            Kin::default()
        })
    }

    /// A chunk, or the list of them, that the hash does not vouch for is the core's trouble; all else is ours.
    pub(crate) fn bad(&self, source: volume::Error) -> Error {
        if matches!(source, volume::Error::Corrupt { .. }) {
            self.control.count("chunks_refused", 1);
            Error::Damaged { source }
        } else {
            Error::Volume { source }
        }
    }

    /// Tells the trouble of one asset from that of all: when the depot refused an asset, or broke off before a single
    /// byte of it, but else is there for this site, it is the asset's.
    async fn whose(&self, error: Error, depot: &Depot, moved: bool, stop: &Stop) -> Error {
        let probe = async {
            stop.run_until_cancelled(depot.probe())
                .await
                .unwrap_or(Err(Error::Stopped))
        };
        match error {
            Error::Refused { .. } => match probe.await {
                Err(other @ (Error::Site { .. } | Error::Stopped)) => other,
                _ => error,
            },
            Error::Cut { at, .. } if !moved => match probe.await {
                Ok(()) => Error::Answer {
                    what: format!("it breaks off at byte {at}, each time"),
                },
                Err(_) => error,
            },
            _ => error,
        }
    }
}

async fn keep(hash: &Hash, partial: Partial) {
    if let Err(error) = partial.keep().await {
        tracing::debug!(%hash, %error, "the beginning of a chunk is lost");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_for_whole_chunks_and_no_more_than_the_cap_lets_through() {
        assert_eq!(Copier::request_bytes(1 << 20, None), 1 << 20);
        assert_eq!(Copier::request_bytes((1 << 20) + 5, None), 1 << 20);
        assert_eq!(Copier::request_bytes(1 << 20, Some(100_000)), 3 * CHUNK);
        assert_eq!(Copier::request_bytes(1 << 20, Some(10)), CHUNK);
    }
}
