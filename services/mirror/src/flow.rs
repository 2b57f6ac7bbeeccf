//! How an answer comes, and what can be told from it about the way.

use std::time::{Duration, Instant};

/// So many bytes tell how fast the way is: more than one write of the other side.
const ENOUGH: u64 = 48 * 1024;

/// One answer. Waiting for its first byte is no part of its speed.
#[derive(Debug)]
pub(crate) struct Flow {
    /// From the question to the answer's head: a round trip at least.
    waited: Duration,
    first_at: Option<Instant>,
    /// Bytes behind the first piece.
    got: u64,
}

impl Flow {
    /// Of an answer whose head is here.
    pub(crate) fn new(asked_at: Instant) -> Self {
        Self {
            waited: asked_at.elapsed(),
            first_at: None,
            got: 0,
        }
    }

    /// Some bytes came.
    pub(crate) fn got(&mut self, bytes: usize) {
        if self.first_at.is_some() {
            self.got += bytes as u64;
        } else {
            self.first_at = Some(Instant::now());
        }
    }

    /// Bytes a second, once it can be told.
    #[expect(clippy::cast_precision_loss, reason = "it is an estimate")]
    pub(crate) fn speed(&self) -> Option<f64> {
        let took = self.first_at.filter(|_| self.got >= ENOUGH)?.elapsed();
        Some(self.got as f64 / took.as_secs_f64().max(0.001))
    }

    /// Whether at this speed the `left` bytes are here sooner than the answer to what is asked now: asked later, the way
    /// would be empty in between.
    #[expect(clippy::cast_precision_loss, reason = "it is an estimate")]
    pub(crate) fn soon_over(&self, left: u64, speed: Option<f64>) -> bool {
        left == 0 || speed.is_some_and(|speed| left as f64 <= speed * self.waited.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_next_is_asked_for_a_round_trip_before_the_answer_ends() {
        let now = Instant::now();
        let mut flow = Flow::new(now.checked_sub(Duration::from_secs(1)).unwrap_or(now));
        flow.got(16_000);
        assert!(flow.speed().is_none() && !flow.soon_over(1, None) && flow.soon_over(0, None));
        flow.first_at = now.checked_sub(Duration::from_secs(10));
        flow.got(500_000);
        let speed = flow.speed().unwrap();
        assert!((49_000.0..=50_000.0).contains(&speed), "{speed}");
        assert!(flow.soon_over(45_000, Some(speed)) && !flow.soon_over(60_000, Some(speed)));
    }
}
