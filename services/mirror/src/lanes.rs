//! How many copies are worth working on at once.
//!
//! On a thin link one copy after the other: each is whole sooner, and a cut costs one connection. On a fat one several, since
//! one connection cannot fill a long way. What the link is, its cap says, or else what came in the last second.
//!
//! A copy gives its lane back when the rest of its bytes will be here within a round trip, and goes on without: what comes
//! next is asked for then, and storing what has come holds nothing up.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// From so many bytes a second on a link is fat, and very fat.
const FAT: f64 = 128.0 * 1024.0;
const VERY_FAT: f64 = 1024.0 * 1024.0;
/// So many seconds small objects that are asked for at once may take: what is wanted sooner comes behind them.
const BATCH_SECONDS: u64 = 2;
/// So many bytes of them are asked for at once as long as the speed is not known; enough to tell it.
const FIRST: u64 = 128 * 1024;
/// A depot allows a site eight requests at once, and one of them reads the manifest.
const REQUESTS: usize = 7;
/// Copies that go on without a lane.
const ENDING: usize = 3;

/// What a link has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Width {
    /// Copies that fill it.
    pub(crate) lanes: usize,
    /// Copies at all, those that only come to their end among them.
    pub(crate) copies: usize,
    /// Small objects asked for at once: a request for many takes its time on a thin link, and is lost by a cut.
    pub(crate) batch: usize,
    /// Their bytes.
    pub(crate) bytes: u64,
}

impl Width {
    /// Of a link with this cap and these bytes a second; `most` lanes.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cap above 2^53 bytes a second is fat, and a rate is an estimate above 0"
    )]
    pub(crate) fn of(most: usize, cap: Option<u64>, rate: Option<f64>) -> Self {
        let thin_cap = cap.is_some_and(|cap| (cap as f64) < FAT);
        // What was measured goes before what is allowed: behind a large cap there may be a thin link.
        let thin = thin_cap || rate.map_or_else(|| cap.is_none(), |rate| rate < FAT);
        let lanes = if thin { 1 } else { most };
        let very = cap.is_none_or(|cap| cap as f64 >= VERY_FAT) && rate.is_some_and(|rate| rate >= VERY_FAT);
        let bytes = rate.map_or(FIRST, |rate| (rate as u64).saturating_mul(BATCH_SECONDS));
        Self {
            lanes,
            copies: (lanes + ENDING).min(REQUESTS).max(lanes),
            batch: match (thin, very) {
                (true, _) => 128,
                (false, false) => 512,
                (false, true) => 4096,
            },
            bytes: cap.map_or(bytes, |cap| bytes.min(cap.saturating_mul(BATCH_SECONDS))),
        }
    }
}

/// The lanes that are taken.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    taken: AtomicUsize,
    freed: Notify,
}

impl Lanes {
    pub(crate) fn take(&self) -> Lane<'_> {
        self.taken.fetch_add(1, Ordering::Relaxed);
        Lane {
            lanes: self,
            held: AtomicBool::new(true),
        }
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Waits until a lane was given back since this was asked last.
    pub(crate) async fn freed(&self) {
        self.freed.notified().await;
    }
}

/// One lane; given back when it is dropped, if not before.
#[derive(Debug)]
pub(crate) struct Lane<'a> {
    lanes: &'a Lanes,
    held: AtomicBool,
}

impl Lane<'_> {
    /// Gives it back; twice is once.
    pub(crate) fn free(&self) {
        if self.held.swap(false, Ordering::Relaxed) {
            self.lanes.taken.fetch_sub(1, Ordering::Relaxed);
            self.lanes.freed.notify_one();
        }
    }
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        self.free();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thin_link_has_one_copy_and_a_fat_one_all() {
        let lanes = |cap, rate| Width::of(4, cap, rate).lanes;
        assert_eq!(lanes(Some(8_000), Some(1e9)), 1);
        assert_eq!(lanes(Some(1_000_000), None), 4);
        assert_eq!(lanes(Some(1_000_000), Some(8_000.0)), 1);
        assert_eq!(lanes(None, None), 1);
        assert_eq!(lanes(None, Some(10_000.0)), 1);
        assert_eq!(lanes(None, Some(1e6)), 4);
        let batch = |cap, rate| Width::of(4, cap, rate).batch;
        assert_eq!(
            [batch(None, None), batch(None, Some(1e6)), batch(None, Some(2e6))],
            [128, 512, 4096]
        );
        assert_eq!(batch(Some(500_000), Some(2e6)), 512);
        let bytes = |cap, rate| Width::of(4, cap, rate).bytes;
        assert_eq!(
            [bytes(None, None), bytes(None, Some(8e3)), bytes(None, Some(2e6))],
            [FIRST, 16_000, 4_000_000]
        );
        assert_eq!(
            [bytes(Some(8_000), None), bytes(Some(8_000), Some(2e6))],
            [16_000; 2]
        );
        assert_eq!(Width::of(4, None, Some(1e6)).copies, REQUESTS);
        assert_eq!(Width::of(9, None, Some(1e6)).copies, 9);
    }

    #[tokio::test]
    async fn a_lane_is_given_back_once() {
        let lanes = Lanes::default();
        let (first, second) = (lanes.take(), lanes.take());
        first.free();
        lanes.freed().await;
        drop(first);
        assert_eq!(lanes.taken(), 1);
        drop(second);
        lanes.freed().await;
        assert_eq!(lanes.taken(), 0);
    }
}
