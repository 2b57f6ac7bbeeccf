//! A cap on bytes per second that all copies share.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How much of a quiet time may be made up for.
const BURST: Duration = Duration::from_millis(250);

/// Bytes are paid for after they came: whoever took them waits before it takes more, and TCP holds the depot back.
#[derive(Debug)]
pub(crate) struct Pace(Option<Mutex<Bucket>>);

#[derive(Debug)]
struct Bucket {
    rate: f64,
    paid_until: Instant,
}

impl Pace {
    /// No cap when `rate` is none.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate above 2^53 bytes per second is no cap"
    )]
    pub(crate) fn new(rate: Option<u64>) -> Self {
        Self(rate.map(|rate| {
            Mutex::new(Bucket {
                rate: rate as f64,
                paid_until: Instant::now(),
            })
        }))
    }

    /// Waits as long as `bytes` cost.
    pub(crate) async fn pay(&self, bytes: usize) {
        let Some(bucket) = &self.0 else { return };
        let wait = bucket
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pay(Instant::now(), bytes);
        tokio::time::sleep(wait).await;
    }
}

impl Bucket {
    #[expect(clippy::cast_precision_loss, reason = "pieces are far below 2^53 bytes")]
    fn pay(&mut self, now: Instant, bytes: usize) -> Duration {
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        self.paid_until = self.paid_until.max(earliest) + Duration::from_secs_f64(bytes as f64 / self.rate);
        self.paid_until.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_cost_time_and_quiet_time_is_made_up_for_in_part() {
        let start = Instant::now();
        let mut bucket = Bucket {
            rate: 1000.0,
            paid_until: start,
        };
        assert_eq!(bucket.pay(start, 500), Duration::from_millis(500));
        assert_eq!(bucket.pay(start, 500), Duration::from_secs(1));
        let later = start + Duration::from_secs(60);
        assert_eq!(bucket.pay(later, 250), Duration::ZERO);
        assert_eq!(bucket.pay(later, 1000), Duration::from_secs(1));
    }
}
