//! How fast the link has been of late.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How far back it looks.
const SPAN: Duration = Duration::from_secs(10);

/// The bytes of the last seconds, second by second.
#[derive(Debug)]
pub(crate) struct Recent {
    start: Instant,
    /// Number of the second, and its bytes.
    seconds: VecDeque<(u64, u64)>,
}

impl Recent {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            start: now,
            seconds: VecDeque::new(),
        }
    }

    pub(crate) fn add(&mut self, now: Instant, bytes: u64) {
        let second = now.saturating_duration_since(self.start).as_secs();
        match self.seconds.back_mut() {
            Some((last, sum)) if *last == second => *sum += bytes,
            _ => self.seconds.push_back((second, bytes)),
        }
        self.seconds.retain(|(then, _)| then + SPAN.as_secs() >= second);
    }

    /// Bytes in a second, over the last ten whole ones.
    pub(crate) fn rate(&self, now: Instant) -> u64 {
        let second = now.saturating_duration_since(self.start).as_secs();
        let first = second.saturating_sub(SPAN.as_secs());
        let whole = self
            .seconds
            .iter()
            .filter(|(then, _)| (first..second).contains(then));
        whole.map(|(_, bytes)| bytes).sum::<u64>() / (second - first).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_forgotten_after_ten_seconds() {
        let start = Instant::now();
        let mut recent = Recent::new(start);
        recent.add(start, 50);
        recent.add(start + Duration::from_secs(5), 50);
        assert_eq!(recent.rate(start + Duration::from_secs(4)), 12);
        assert_eq!(recent.rate(start + Duration::from_secs(10)), 10);
        assert_eq!(recent.rate(start + Duration::from_secs(12)), 5);
        assert_eq!(recent.rate(start + Duration::from_secs(60)), 0);
    }
}
