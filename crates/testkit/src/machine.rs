//! How much of the machine others had: a figure that was taken while they had much is worth less, and what is to happen
//! within a second does not on a machine that is away for longer.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

/// A machine of which others had so much, or which was idle for so little, in percent, cannot be held to a second.
const OTHERS: f64 = 10.0;
const IDLE: f64 = 5.0;
/// Nor one on which a timer is so late.
const LATE: Duration = Duration::from_millis(200);
const TICK: Duration = Duration::from_millis(20);

/// The processors' time so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Machine {
    all: u64,
    idle: u64,
    others: u64,
}

impl Machine {
    /// As it is now; nothing where /proc does not tell.
    pub fn now() -> Self {
        let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        Self::read(&text)
    }

    fn read(stat: &str) -> Self {
        let first = stat.lines().next().unwrap_or_default();
        // user nice system idle iowait irq softirq steal; what guests had is in user.
        let times = first
            .split_whitespace()
            .skip(1)
            .take(8)
            .map(|time| time.parse().unwrap_or(0));
        let times: Vec<u64> = times.collect();
        Self {
            all: times.iter().sum(),
            idle: times.get(3).copied().unwrap_or(0),
            others: times.get(7).copied().unwrap_or(0),
        }
    }

    /// How much of the processors' time since then other machines on the same hardware had (`steal`), in percent.
    pub fn others(&self) -> f64 {
        Self::now().since(self).0
    }

    /// What others had, and what nobody had, in percent.
    fn since(&self, before: &Self) -> (f64, f64) {
        let all = self.all.saturating_sub(before.all).max(1);
        let part = |now: u64, before: u64| now.saturating_sub(before) as f64 / all as f64 * 100.0;
        (part(self.others, before.others), part(self.idle, before.idle))
    }
}

/// Watches whether the machine does what it is told in time.
#[derive(Debug)]
pub struct Watch {
    before: Machine,
    late: Arc<AtomicU64>,
    _task: JoinSet<()>,
}

impl Watch {
    /// From now on.
    pub fn begin() -> Self {
        let late = Arc::new(AtomicU64::new(0));
        let (seen, mut task) = (late.clone(), JoinSet::new());
        task.spawn(async move {
            loop {
                let due = Instant::now() + TICK;
                tokio::time::sleep_until(due).await;
                let by = u64::try_from(due.elapsed().as_millis()).unwrap_or(u64::MAX);
                seen.fetch_max(by, Ordering::Relaxed);
            }
        });
        Self {
            before: Machine::now(),
            late,
            _task: task,
        }
    }

    /// Why it cannot be held to a second, if so.
    pub fn away(&self) -> Option<String> {
        let (others, idle) = Machine::now().since(&self.before);
        let late = Duration::from_millis(self.late.load(Ordering::Relaxed));
        let away = others > OTHERS || idle < IDLE || late > LATE;
        away.then(|| format!("others had {others:.0} %, {idle:.0} % was idle, timers were {late:?} late"))
    }
}

/// Does something until it comes out right. That it does not is forgiven `most` times, and only while the machine was away.
///
/// # Panics
/// When it is not.
#[expect(clippy::print_stdout, reason = "a test's figures are shown with its output")]
pub async fn tried<T: Debug>(most: usize, mut once: impl AsyncFnMut() -> T, right: impl Fn(&T) -> bool) -> T {
    let mut excuses = Vec::new();
    loop {
        let watch = Watch::begin();
        let found = once().await;
        if right(&found) {
            println!("{found:?} after {excuses:?}");
            return found;
        }
        match watch.away() {
            Some(why) if excuses.len() < most => excuses.push(format!("{found:?} ({why})")),
            Some(why) => panic!("{found:?} ({why}), after {excuses:?}"),
            None => panic!("{found:?} on a machine that had nothing else to do, after {excuses:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_had_is_a_part_of_all_time() {
        let before = Machine::read("cpu  100 0 100 700 0 0 0 100 50 0\ncpu0 1 2 3\n");
        let after = Machine::read("cpu  150 0 150 1200 0 0 0 500 50 0\n");
        let (others, idle) = after.since(&before);
        assert!((others - 40.0).abs() < 1e-9 && (idle - 50.0).abs() < 1e-9);
        assert!(Machine::read("").since(&Machine::read("")).0.abs() < 1e-9);
    }

    /// Lets nothing else run on the test's one thread.
    fn hog() {
        let since = std::time::Instant::now();
        while since.elapsed() < LATE * 2 {
            std::hint::spin_loop();
        }
    }

    #[tokio::test]
    async fn a_machine_that_is_away_is_seen() {
        let watch = Watch::begin();
        tokio::task::yield_now().await;
        hog();
        tokio::time::sleep(TICK * 2).await;
        assert!(watch.away().is_some());
    }

    #[tokio::test]
    async fn what_comes_out_wrong_while_the_machine_is_away_is_tried_again() {
        let mut tries = 0;
        let once = async || {
            tries += 1;
            if tries < 3 {
                tokio::task::yield_now().await;
                hog();
                tokio::time::sleep(TICK * 2).await;
            }
            tries
        };
        assert_eq!(tried(3, once, |tries| *tries == 3).await, 3);
    }
}
