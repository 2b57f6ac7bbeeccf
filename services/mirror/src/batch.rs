//! Many small objects with one request: on a long way a request for each would be nothing but waiting.

use bytes::{Buf as _, Bytes, BytesMut};
use common::chassis::Stop;
use common::volume::{CHUNK, ManifestEntry};
use futures_util::stream::{self, FuturesUnordered, StreamExt as _};
use tokio::time::{Instant, sleep_until};

use crate::arrival::wanted;
use crate::depot::{Body, Depot};
use crate::error::{Concerns, Error, Result};
use crate::lanes::Lane;
use crate::pass::Worker;
use crate::progress::Progress;
use crate::room::Place;
use crate::round::LOOK;

/// Objects of a batch that are stored at once: those that are synced together cost little more than one.
const AT_ONCE: usize = 64;
const HEAD: usize = 5;
const REASON_BYTES: usize = 16 << 10;

/// What became of the entries of a batch. Those that are not named were not come to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) entries: Vec<(ManifestEntry, Result<()>)>,
    /// What ended the batch early.
    pub(crate) trouble: Option<Error>,
}

/// Whether an entry can be one of many.
pub(crate) fn small(entry: &ManifestEntry) -> bool {
    entry.size <= CHUNK
}

impl Worker {
    /// Mirrors small objects together. What there is no room for is not asked for.
    pub(crate) async fn batch(
        &self,
        depot: &Depot,
        entries: Vec<ManifestEntry>,
        progress: &Progress,
        lane: &Lane<'_>,
        stop: &Stop,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let (mut missing, mut places) = (Vec::new(), Vec::new());
        let mut looked = stream::iter(entries)
            .map(async |entry| {
                let found = self.without_depot(&entry, progress).await;
                (entry, found)
            })
            .buffered(AT_ONCE);
        while let Some((entry, found)) = looked.next().await {
            match found {
                Ok(false) => match self.copier.room.take(entry.size) {
                    Ok(place) => {
                        missing.push(entry);
                        places.push(place);
                    }
                    Err(error) => outcome.entries.push((entry, Err(error))),
                },
                Ok(true) => outcome.entries.push((entry, Ok(()))),
                Err(error) => outcome.entries.push((entry, Err(error))),
            }
        }
        drop(looked);
        if missing.is_empty() {
            return outcome;
        }
        let body = stop.run_until_cancelled(depot.batch(&missing)).await;
        match body.unwrap_or(Err(Error::Stopped)) {
            Ok(body) => {
                let wanted = missing.into_iter().zip(places).collect();
                let received = self.receive(body, wanted, progress, lane, stop);
                let (stored, trouble) = received.await;
                outcome.entries.extend(stored);
                outcome.trouble = trouble;
            }
            // A core of an earlier release knows no batches.
            Err(Error::Refused { .. }) => {
                drop(places);
                for entry in missing {
                    let result = self.single(depot, &entry, progress, None, stop).await;
                    outcome.entries.push((entry, result));
                }
            }
            Err(error) => outcome.trouble = Some(error),
        }
        outcome
    }

    /// Whether nothing is to be fetched for an entry.
    async fn without_depot(&self, entry: &ManifestEntry, progress: &Progress) -> Result<bool> {
        let facts = self.book.facts(entry).await?;
        if !wanted(&facts) {
            self.unwanted(entry, progress).await;
            return Ok(true);
        }
        let here = self.copier.volume.stat(&entry.hash).await;
        if here.map_err(|source| Error::Volume { source })?.is_none() {
            return Ok(false);
        }
        let mut portion = progress.portion();
        portion.had(entry.size);
        self.arrived(entry, &facts).await?;
        portion.keep();
        Ok(true)
    }

    /// Stores what comes, until all of it is here, something goes wrong that the rest would meet as well, or nothing of the
    /// rest is wanted any more. What is here of the object in whose middle that is, is kept for another request.
    async fn receive(
        &self,
        mut body: Body<'_>,
        wanted: Vec<(ManifestEntry, Place<'_>)>,
        progress: &Progress,
        lane: &Lane<'_>,
        stop: &Stop,
    ) -> (Vec<(ManifestEntry, Result<()>)>, Option<Error>) {
        let mut left: u64 = wanted.iter().map(|(entry, _)| framed(entry)).sum();
        let (mut done, mut trouble) = (Vec::new(), None);
        let mut storing = FuturesUnordered::new();
        let mut buffer = BytesMut::new();
        let mut broken_off = None;
        let mut looked_at = Instant::now();
        let mut wanted = wanted.into_iter();
        'wanted: while let Some((entry, place)) = wanted.next() {
            // What has come is stored while more comes.
            let frame = loop {
                tokio::select! {
                    frame = stop.run_until_cancelled(frame(&mut body, &mut buffer)), if storing.len() < AT_ONCE => {
                        break frame.unwrap_or(Err(Error::Stopped));
                    }
                    Some((other, stored)) = storing.next() => {
                        let all = concerns_all(&stored);
                        done.push((other, stored));
                        if all {
                            broken_off = Some(entry);
                            break 'wanted;
                        }
                    }
                    () = sleep_until(looked_at + LOOK) => {
                        looked_at = Instant::now();
                        if self.wants_none(&entry, wanted.as_slice()).await {
                            let mut next = Some(entry);
                            while let Some(entry) = next {
                                self.unwanted(&entry, progress).await;
                                done.push((entry, Ok(())));
                                next = wanted.next().map(|(entry, _)| entry);
                            }
                            break 'wanted;
                        }
                    }
                }
            };
            left = left.saturating_sub(framed(&entry));
            if body.soon_over(left.saturating_sub(buffer.len() as u64)) {
                lane.free();
            }
            match frame {
                Ok(Ok(bytes)) => {
                    progress.received(bytes.len());
                    let length = bytes.len();
                    storing.push(async move {
                        let stored = self.store(&entry, place, &bytes, progress).await;
                        (entry, stored)
                    });
                    // Told to stop meanwhile, the next object hears of it, and what is here of that one is kept.
                    stop.run_until_cancelled(self.copier.pace.pay(length)).await;
                }
                Ok(Err(detail)) => done.push((entry, Err(Error::Refused { detail }))),
                Err(error) => {
                    trouble = Some(error);
                    broken_off = Some(entry);
                    break;
                }
            }
        }
        drop(body);
        lane.free();
        while let Some(stored) = storing.next().await {
            done.push(stored);
        }
        if let Some(entry) = broken_off {
            let bytes = beginning(&entry, &buffer);
            self.copier.begin(&entry, bytes, progress).await;
        }
        (done, trouble)
    }

    /// Whether the team wants none of them any more.
    async fn wants_none(&self, entry: &ManifestEntry, others: &[(ManifestEntry, Place<'_>)]) -> bool {
        if !self.dropped(entry).await {
            return false;
        }
        for (other, _) in others {
            if !self.dropped(other).await {
                return false;
            }
        }
        true
    }

    async fn store(
        &self,
        entry: &ManifestEntry,
        place: Place<'_>,
        bytes: &Bytes,
        progress: &Progress,
    ) -> Result<()> {
        // It can have been taken back since it was asked for.
        let facts = self.book.facts(entry).await?;
        if !wanted(&facts) {
            self.unwanted(entry, progress).await;
            return Ok(());
        }
        let stored = self.copier.volume.put(&entry.hash, bytes.clone()).await;
        stored.map_err(|source| self.copier.bad(source))?;
        place.fill();
        let mut portion = progress.portion();
        portion.add(entry.size);
        self.arrived(entry, &facts).await?;
        portion.keep();
        Ok(())
    }
}

/// Whether what went wrong with one object goes wrong with others.
fn concerns_all(stored: &Result<()>) -> bool {
    let one = |error: &Error| matches!(error.concerns(), Concerns::Asset | Concerns::Room);
    stored.as_ref().is_err_and(|error| !one(error))
}

/// The bytes of an entry's frame.
fn framed(entry: &ManifestEntry) -> u64 {
    HEAD as u64 + entry.size
}

/// What is here of an object whose frame is not whole.
fn beginning<'a>(entry: &ManifestEntry, buffer: &'a [u8]) -> &'a [u8] {
    match buffer.split_first_chunk::<HEAD>() {
        Some(([0, length @ ..], bytes)) if u64::from(u32::from_be_bytes(*length)) == entry.size => {
            let length = usize::try_from(entry.size).unwrap_or(usize::MAX);
            &bytes[..length.min(bytes.len())]
        }
        _ => &[],
    }
}

/// The next object, or the reason why it is not given. Nothing is taken from the buffer before all of it is there, so it
/// can be dropped and called again.
async fn frame(body: &mut Body<'_>, buffer: &mut BytesMut) -> Result<Result<Bytes, String>> {
    loop {
        if let Some(head) = buffer.first_chunk::<HEAD>() {
            let (kind, mut length) = (head[0], &head[1..]);
            let refused = kind != 0;
            let length = usize::try_from(length.get_u32()).unwrap_or(usize::MAX);
            let chunk = usize::try_from(CHUNK).unwrap_or(usize::MAX);
            if length > if refused { REASON_BYTES } else { chunk } {
                return Err(Error::Answer {
                    what: format!("a frame of {length} bytes"),
                });
            }
            if buffer.len() >= HEAD + length {
                buffer.advance(HEAD);
                let bytes = buffer.split_to(length).freeze();
                return Ok(if refused {
                    Err(String::from_utf8_lossy(&bytes).into_owned())
                } else {
                    Ok(bytes)
                });
            }
        }
        buffer.extend_from_slice(&body.next().await?);
    }
}
