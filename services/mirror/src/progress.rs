//! How far a command has come, as the page shows it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::control::Control;

/// How often the rate is worked out anew.
const RATE_EVERY: Duration = Duration::from_secs(1);
/// The gauge of the rate.
const RATE: &str = "bytes_per_second";

/// The figures of one command.
#[derive(Debug)]
pub(crate) struct Progress {
    control: Control,
    figures: Mutex<Figures>,
}

#[derive(Debug)]
struct Figures {
    total: u64,
    done: u64,
    left: u64,
    /// Bytes received since `since`.
    fresh: u64,
    since: Instant,
    /// Whether any have come since the measuring began.
    came: bool,
    rate: Option<f64>,
    /// Pieces that came and were kept, and finished entries: tells whether there was any progress at all.
    steps: u64,
}

impl Progress {
    pub(crate) fn new(control: Control) -> Self {
        let figures = Figures {
            total: 0,
            done: 0,
            left: 0,
            fresh: 0,
            since: Instant::now(),
            came: false,
            rate: None,
            steps: 0,
        };
        let progress = Self {
            control,
            figures: Mutex::new(figures),
        };
        progress.forget_rate();
        progress.show(&progress.figures());
        progress
    }

    fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An entry was seen for the first time.
    pub(crate) fn found(&self, size: u64) {
        let mut figures = self.figures();
        figures.total += size;
        figures.left += 1;
        self.show(&figures);
    }

    /// An entry needs nothing more in this command.
    pub(crate) fn over(&self) {
        let mut figures = self.figures();
        figures.left = figures.left.saturating_sub(1);
        figures.steps += 1;
        self.show(&figures);
    }

    /// An entry turned out not to be wanted.
    pub(crate) fn unwanted(&self, size: u64) {
        let mut figures = self.figures();
        figures.total = figures.total.saturating_sub(size);
        self.show(&figures);
    }

    /// Bytes came from the depot.
    pub(crate) fn received(&self, bytes: usize) {
        self.control
            .count("bytes_received", i64::try_from(bytes).unwrap_or(i64::MAX));
        let mut figures = self.figures();
        figures.fresh += bytes as u64;
        figures.came = true;
        if figures.since.elapsed() >= RATE_EVERY {
            figures.measure();
            self.show(&figures);
        }
    }

    /// Starts to measure the rate: pauses are no part of it.
    pub(crate) fn begin(&self) {
        let mut figures = self.figures();
        figures.fresh = 0;
        figures.since = Instant::now();
        figures.came = false;
    }

    /// Measures what is left to measure. Where nothing came of what is left, the rate of before is no rate any more.
    pub(crate) fn end(&self) {
        let mut figures = self.figures();
        figures.measure();
        self.show(&figures);
        if !figures.came && figures.left > 0 {
            self.forget_rate();
        }
    }

    /// Bytes a second, as far as it is known.
    pub(crate) fn rate(&self) -> Option<f64> {
        self.figures().rate
    }

    /// How many steps were made.
    pub(crate) fn steps(&self) -> u64 {
        self.figures().steps
    }

    /// The part of one copy, which counts as long as the value is held, or for ever once it is kept.
    pub(crate) fn portion(&self) -> Portion<'_> {
        Portion {
            progress: self,
            bytes: 0,
            steps: 0,
        }
    }

    fn forget_rate(&self) {
        self.control.retain_gauges(|name| name != RATE);
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn show(&self, figures: &Figures) {
        self.control.gauge("bytes_total", figures.total as f64);
        self.control.gauge("bytes_done", figures.done as f64);
        self.control.gauge("entries_left", figures.left as f64);
        if let Some(rate) = figures.rate.filter(|_| figures.came) {
            self.control.gauge(RATE, rate);
        }
    }
}

impl Figures {
    /// The mean of the newest figure and those before, so that it does not flicker.
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn measure(&mut self) {
        let elapsed = self.since.elapsed().as_secs_f64();
        if self.fresh > 0 && elapsed > 0.0 {
            let newest = self.fresh as f64 / elapsed;
            self.rate = Some(self.rate.map_or(newest, |rate| f64::midpoint(rate, newest)));
        }
        self.fresh = 0;
        self.since = Instant::now();
    }
}

/// The bytes of one copy that are here and verified.
#[derive(Debug)]
pub(crate) struct Portion<'a> {
    progress: &'a Progress,
    bytes: u64,
    steps: u64,
}

impl Portion<'_> {
    /// Bytes that were here before.
    pub(crate) fn had(&mut self, bytes: u64) {
        self.bytes += bytes;
        let mut figures = self.progress.figures();
        figures.done += bytes;
        self.progress.show(&figures);
    }

    /// Bytes came and were kept, and so many are verified now.
    pub(crate) fn add(&mut self, verified: u64) {
        self.had(verified);
        self.steps += 1;
        self.progress.figures().steps += 1;
    }

    /// Whether this copy has come any further.
    pub(crate) fn moved(&self) -> bool {
        self.steps > 0
    }

    /// Lets the bytes count for ever.
    pub(crate) fn keep(&mut self) {
        self.bytes = 0;
    }
}

impl Drop for Portion<'_> {
    fn drop(&mut self) {
        let mut figures = self.progress.figures();
        figures.done = figures.done.saturating_sub(self.bytes);
        self.progress.show(&figures);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gauge(control: &Control, name: &str) -> f64 {
        control.status().gauges[name]
    }

    #[test]
    fn bytes_of_a_copy_that_failed_do_not_count_twice() {
        let control = Control::detached();
        let progress = Progress::new(control.clone());
        progress.found(100);
        let mut first = progress.portion();
        first.add(40);
        assert!(first.moved() && gauge(&control, "bytes_done") == 40.0);
        drop(first);
        assert_eq!(gauge(&control, "bytes_done"), 0.0);
        let mut second = progress.portion();
        second.had(40);
        assert!(!second.moved());
        second.add(60);
        second.keep();
        drop(second);
        progress.over();
        assert_eq!(gauge(&control, "bytes_done"), 100.0);
        assert_eq!(gauge(&control, "bytes_total"), 100.0);
        assert_eq!(gauge(&control, "entries_left"), 0.0);
    }

    #[test]
    fn there_is_no_rate_before_bytes_came() {
        let control = Control::detached();
        let progress = Progress::new(control.clone());
        progress.end();
        assert!(!control.status().gauges.contains_key("bytes_per_second"));
        progress.begin();
        progress.received(1000);
        progress.end();
        assert!(gauge(&control, "bytes_per_second") > 0.0);
    }

    #[test]
    fn a_rate_is_not_shown_when_nothing_comes_any_more_nor_in_the_next_command() {
        let control = Control::detached();
        let shown = |control: &Control| control.status().gauges.contains_key("bytes_per_second");
        let progress = Progress::new(control.clone());
        progress.found(1000);
        progress.begin();
        progress.received(400);
        progress.end();
        assert!(shown(&control));
        progress.begin();
        progress.found(500);
        progress.end();
        assert!(!shown(&control), "the depot is away");
        assert!(
            progress.rate().is_some(),
            "how wide the next round works is told by it"
        );
        progress.begin();
        progress.received(600);
        progress.over();
        progress.over();
        progress.end();
        progress.begin();
        progress.end();
        assert!(
            shown(&control),
            "nothing is left: it is that of the whole command"
        );
        drop(progress);
        let _next = Progress::new(control.clone());
        assert!(!shown(&control));
    }
}
