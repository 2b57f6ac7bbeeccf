//! How far this machine's clock and a server's are apart.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// By how much this machine's clock is ahead of a server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skew {
    /// Milliseconds; behind is less than zero.
    pub ahead_ms: i64,
    /// How far that may be wrong, either way.
    pub within_ms: i64,
}

impl Skew {
    /// From what a server's clock said when it dealt with a request whose answer took so long and is here now: it was
    /// some time between, so half of that is all that can be wrong (Cristian, "Probabilistic clock synchronization", 1989).
    pub(crate) fn measured(server_ms: i64, now: SystemTime, took: Duration) -> Self {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let half = i64::try_from(took.as_millis() / 2).unwrap_or(i64::MAX / 4);
        Self {
            ahead_ms: now_ms - half - server_ms,
            // The server counts whole milliseconds, and so does this machine.
            within_ms: half + 1,
        }
    }

    /// What is known after a later measurement: the closer one, as long as both can be true; else a clock was set.
    #[must_use]
    pub fn then(self, later: Self) -> Self {
        let apart = self.ahead_ms.abs_diff(later.ahead_ms);
        let agree = apart <= self.within_ms.saturating_add(later.within_ms).unsigned_abs();
        if agree && self.within_ms < later.within_ms {
            self
        } else {
            later
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_truth_is_never_further_off_than_said() {
        for (there, back) in [(0, 0), (5, 900), (900, 5), (20_000, 40_000), (333, 334)] {
            for ahead in [0, 180_000, -180_000] {
                let (sent, took): (i64, i64) = (1_700_000_000_000, there + back);
                let server = sent - ahead + there;
                let took = Duration::from_millis(took.unsigned_abs());
                let now = UNIX_EPOCH + Duration::from_millis(sent.unsigned_abs()) + took;
                let skew = Skew::measured(server, now, took);
                assert!(
                    skew.ahead_ms.abs_diff(ahead) <= skew.within_ms.unsigned_abs(),
                    "{skew:?} for {ahead}"
                );
                assert!(skew.within_ms <= (there + back) / 2 + 1);
            }
        }
    }

    #[test]
    fn the_closest_measurement_stands_until_a_clock_is_set() {
        let of = |ahead_ms, within_ms| Skew { ahead_ms, within_ms };
        assert_eq!(of(10, 5).then(of(200, 300)), of(10, 5), "a slow answer says less");
        assert_eq!(of(200, 300).then(of(10, 5)), of(10, 5));
        assert_eq!(
            of(10, 5).then(of(3_600_200, 300)),
            of(3_600_200, 300),
            "both cannot be true"
        );
        assert_eq!(of(10, 5).then(of(12, 5)), of(12, 5));
    }
}
