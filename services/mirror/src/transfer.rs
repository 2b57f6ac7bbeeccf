//! One object, from the depot into the volume.

use bytes::BytesMut;
use common::chassis::Stop;
use common::control::Control;
use common::volume::{self, CHUNK, ManifestEntry, Volume};

use crate::depot::Depot;
use crate::error::{Error, Result};
use crate::pace::Pace;
use crate::progress::{Portion, Progress};

/// What copies share.
#[derive(Debug)]
pub(crate) struct Copier {
    pub(crate) volume: Volume,
    pub(crate) control: Control,
    pub(crate) pace: Pace,
    /// Whole chunks.
    pub(crate) request_bytes: u64,
}

impl Copier {
    /// The most bytes that one request asks for. Under a cap it is what two seconds allow, so that what the system
    /// buffers does not come as one burst.
    pub(crate) fn request_bytes(wanted: u64, cap: Option<u64>) -> u64 {
        let wanted = cap.map_or(wanted, |cap| wanted.min(cap.saturating_mul(2)));
        (wanted / CHUNK).max(1) * CHUNK
    }

    /// Brings the object here, or finds that it is here; then it is whole, verified and durable. Goes on where an
    /// earlier try stopped; told to stop, it leaves the chunks that are verified and forgets the unfinished one.
    pub(crate) async fn bring(
        &self,
        depot: &Depot,
        entry: &ManifestEntry,
        progress: &Progress,
        stop: &Stop,
    ) -> Result<()> {
        let mut portion = progress.portion();
        let local = |source| Error::Volume { source };
        if self.volume.stat(&entry.hash).await.map_err(local)?.is_some() {
            portion.had(entry.size);
        } else {
            let copied = self.copy(depot, entry, progress, &mut portion, stop).await;
            if let Err(error) = copied {
                return Err(self.whose(error, depot, portion.moved(), stop).await);
            }
        }
        portion.keep();
        Ok(())
    }

    /// Forgets what is here of an object that is not wanted; at worst it lies in staging until it is.
    pub(crate) async fn forget(&self, entry: &ManifestEntry) {
        if let Err(error) = self.volume.forget(&entry.hash).await {
            tracing::debug!(hash = %entry.hash, %error, "partial copy stays");
        }
    }

    async fn copy(
        &self,
        depot: &Depot,
        entry: &ManifestEntry,
        progress: &Progress,
        portion: &mut Portion<'_>,
        stop: &Stop,
    ) -> Result<()> {
        let chunks = stop
            .run_until_cancelled(depot.chunks(entry))
            .await
            .ok_or(Error::Stopped)??;
        let mut partial = self
            .volume
            .partial(&entry.hash, entry.size, chunks)
            .await
            .map_err(|source| self.bad(source))?;
        portion.had(partial.verified());
        while let Some(first) = partial.next_chunk() {
            let end = first.start.saturating_add(self.request_bytes).min(entry.size);
            let range = first.start..end;
            let mut body = stop
                .run_until_cancelled(depot.range(entry, range))
                .await
                .ok_or(Error::Stopped)??;
            let mut received = BytesMut::new();
            while let Some(chunk) = partial.next_chunk().filter(|chunk| chunk.end <= end) {
                let length = usize::try_from(chunk.end - chunk.start).unwrap_or(usize::MAX);
                while received.len() < length {
                    let bytes = stop
                        .run_until_cancelled(body.next())
                        .await
                        .ok_or(Error::Stopped)??;
                    received.extend_from_slice(&bytes);
                    progress.received(bytes.len());
                    stop.run_until_cancelled(self.pace.pay(bytes.len()))
                        .await
                        .ok_or(Error::Stopped)?;
                }
                partial
                    .append(&received.split_to(length))
                    .await
                    .map_err(|source| self.bad(source))?;
                portion.add(length as u64);
            }
        }
        partial.publish().await.map_err(|source| Error::Volume { source })
    }

    /// A chunk, or the list of them, that the hash does not vouch for is the core's trouble; all else is ours.
    fn bad(&self, source: volume::Error) -> Error {
        if matches!(source, volume::Error::Corrupt { .. }) {
            self.control.count("chunks_refused", 1);
            Error::Damaged { source }
        } else {
            Error::Volume { source }
        }
    }

    /// Tells the trouble of one asset from that of all: when the depot refused an asset, or broke off before a single
    /// chunk of it, but else is there for this site, it is the asset's.
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
