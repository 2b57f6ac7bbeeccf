//! Pauses between attempts: doubling, with jitter, up to a limit.

use std::time::Duration;

use crate::settings::Settings;

/// How much longer the longest pause is where each try costs something.
const PATIENCE: u32 = 60;

/// The pauses of one thing that is tried again and again.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            first: *settings.backoff,
            longest: *settings.backoff_max,
            next: *settings.backoff,
        }
    }

    /// The pauses of one thing that costs something each time.
    pub(crate) fn patient(settings: &Settings) -> Self {
        Self {
            longest: *settings.backoff_max * PATIENCE,
            ..Self::new(settings)
        }
    }

    /// Starts over, after something worked.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }

    /// The next pause: between half and the whole of a span that doubles each time, so that the edges of a core that
    /// was away do not all come back at once.
    pub(crate) fn pause(&mut self) -> Duration {
        let span = self.next;
        self.next = (span * 2).min(self.longest);
        span.mul_f64(rand::random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_start_over_after_a_success() {
        let mut backoff = Backoff::new(&Settings::default());
        let pauses: Vec<_> = (0..10).map(|_| backoff.pause()).collect();
        assert!(pauses[0] <= Duration::from_millis(200) && pauses[0] >= Duration::from_millis(100));
        assert!(pauses[9] <= Duration::from_secs(10) && pauses[9] >= Duration::from_secs(5));
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_millis(200));
        let mut patient = Backoff::patient(&Settings::default());
        let longest = (0..20).map(|_| patient.pause()).max().unwrap_or_default();
        assert!(longest > Duration::from_secs(300) && longest <= Duration::from_secs(600));
    }
}
