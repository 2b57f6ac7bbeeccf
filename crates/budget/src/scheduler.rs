//! Who may go on next under the cap; it knows no clock but what it is told.
//!
//! A stream reads or writes a little and then owes a *bill* of so many bytes; it goes on when the bill is paid. Bills are
//! paid from a bucket that fills at the cap: the first class's before all others, but each class that waits earns its
//! share of whatever is paid to others, and goes first once that covers its bill. Inside a class the first come is the
//! first paid. The bucket may go below nothing by one bill, so no bill is ever too large.
//!
//! A stream that was paid needs a moment to come with its next bill, and a lower class's bill is there already. So the
//! bucket keeps something back for the classes that moved lately (as trunk reservation does): lower ones are paid only
//! from what is above that. Nobody loses by it: what is kept back is there once, not each time.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::class::Class;

const CLASSES: usize = Class::ALL.len();

/// How much of a quiet time may be made up for: what is kept back, and as much again.
const BURST: Duration = Duration::from_millis(200);
/// What is kept back for each higher class that moved lately …
const KEPT: Duration = Duration::from_millis(50);
/// … for so many of them at most.
const KEPT_CLASSES: u32 = 2;
/// How long ago "lately" is: longer than a long way's round trip, after which an answer brings the next bill.
const LATELY: Duration = Duration::from_secs(1);
/// How long a share may be saved up.
const SAVED: Duration = Duration::from_secs(1);
/// What a stream moves before it must ask again: so long at the cap …
const TURN: Duration = Duration::from_millis(25);
/// … but no less and no more than this.
const TURN_BYTES: (u64, u64) = (512, 64 * 1024);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bill {
    stream: u64,
    bytes: u64,
}

#[derive(Debug)]
pub(crate) struct Scheduler {
    /// Bytes in a second.
    rate: Option<f64>,
    share: f64,
    tokens: f64,
    as_of: Instant,
    queues: [VecDeque<Bill>; CLASSES],
    earned: [f64; CLASSES],
    paid: [Option<Instant>; CLASSES],
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a link moves fewer than 2^53 bytes a second"
)]
fn float(bytes: u64) -> f64 {
    bytes as f64
}

impl Scheduler {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            rate: None,
            share: 0.0,
            tokens: 0.0,
            as_of: now,
            queues: Default::default(),
            earned: [0.0; CLASSES],
            paid: [None; CLASSES],
        }
    }

    /// Sets the cap and the percentage of it that each lower class gets. What is owed is forgotten but for a second of
    /// the new cap: a change takes effect soon.
    pub(crate) fn set(&mut self, now: Instant, cap: Option<u64>, share: u8) {
        self.fill(now);
        self.rate = cap.map(float);
        self.share = f64::from(share) / 100.0;
        let turn = self.turn();
        if let Some(rate) = self.rate {
            self.tokens = self.tokens.clamp(-rate, rate * BURST.as_secs_f64());
            for bill in self.queues.iter_mut().flatten() {
                bill.bytes = bill.bytes.min(turn);
            }
        }
    }

    /// How many bytes a stream may move before it asks again.
    pub(crate) fn turn(&self) -> u64 {
        let (least, most) = TURN_BYTES;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and limited right after"
        )]
        let turn = self.rate.map_or(most, |rate| (rate * TURN.as_secs_f64()) as u64);
        turn.clamp(least, most)
    }

    /// A stream owes bytes; it has no other bill. What is more than a turn came unasked, into the system's buffers: it
    /// goes to the account of all at once, or the stream would be behind for ever under the share of its class.
    pub(crate) fn owe(&mut self, class: Class, stream: u64, bytes: u64) {
        let turn = bytes.min(self.turn());
        self.charge(class, bytes - turn);
        self.queues[class.index()].push_back(Bill { stream, bytes: turn });
    }

    /// A stream has ended. What it owes has crossed all the same.
    pub(crate) fn leave(&mut self, class: Class, stream: u64) {
        if let Some(bytes) = self.withdraw(class, stream) {
            self.charge(class, bytes);
        }
    }

    /// Takes what has crossed already from the bucket; a second of the cap at most, so that nobody has to stand still
    /// for longer.
    fn charge(&mut self, class: Class, bytes: u64) {
        if let Some(rate) = self.rate {
            self.tokens = (self.tokens - float(bytes)).max(self.tokens.min(-rate));
            self.account(class.index(), float(bytes), rate);
        }
    }

    /// Whoever waits while another class's bytes are paid earns its share, and the class that is paid spends of its own.
    fn account(&mut self, paid: usize, bytes: f64, rate: f64) {
        let most = (self.share * rate * SAVED.as_secs_f64()).max(float(TURN_BYTES.1));
        let mut alone = true;
        for other in (0..CLASSES).filter(|other| *other != paid) {
            if !self.queues[other].is_empty() {
                alone = false;
                self.earned[other] = (self.earned[other] + self.share * bytes).min(most);
            }
        }
        self.earned[paid] = if alone {
            0.0
        } else {
            (self.earned[paid] - bytes).max(-most)
        };
    }

    /// A stream's bill is another class's from now on.
    pub(crate) fn reclass(&mut self, from: Class, to: Class, stream: u64) {
        if let Some(bytes) = self.withdraw(from, stream) {
            self.owe(to, stream, bytes);
        }
    }

    fn withdraw(&mut self, class: Class, stream: u64) -> Option<u64> {
        let queue = &mut self.queues[class.index()];
        let place = queue.iter().position(|bill| bill.stream == stream)?;
        queue.remove(place).map(|bill| bill.bytes)
    }

    /// How many streams of a class wait.
    pub(crate) fn waiting(&self, class: Class) -> usize {
        self.queues[class.index()].len()
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.as_of).as_secs_f64();
        self.as_of = now;
        if let Some(rate) = self.rate {
            self.tokens = (self.tokens + elapsed * rate).min(rate * BURST.as_secs_f64());
        }
    }

    /// Pays what can be paid now, and tells whose bills those were. `open` says which classes may cross.
    pub(crate) fn pay(&mut self, now: Instant, mut open: impl FnMut(Class) -> bool) -> Vec<u64> {
        self.fill(now);
        let mut paid = Vec::new();
        while let Some((index, kept)) = self.choose(&mut open) {
            if self.rate.is_some() && self.tokens <= kept {
                break;
            }
            let Some(bill) = self.queues[index].pop_front() else {
                break;
            };
            let bytes = float(bill.bytes);
            if let Some(rate) = self.rate {
                self.tokens -= bytes;
                self.account(index, bytes, rate);
            }
            self.paid[index] = Some(now);
            paid.push(bill.stream);
        }
        paid
    }

    /// The class whose share covers its bill, or else the first; and how much the bucket keeps back from it.
    fn choose(&self, mut open: impl FnMut(Class) -> bool) -> Option<(usize, f64)> {
        let front = |index: usize| self.queues[index].front().map_or(0.0, |bill| float(bill.bytes));
        let candidates = Class::ALL.map(|class| self.waiting(class) > 0 && open(class));
        let mut waiting = (0..CLASSES).filter(|index| candidates[*index]);
        let first = waiting.next()?;
        let earned =
            waiting.filter(|index| self.earned[*index] > 0.0 && self.earned[*index] >= front(*index));
        let longest = earned.max_by(|a, b| self.earned[*a].total_cmp(&self.earned[*b]));
        Some(longest.map_or_else(|| (first, self.kept_from(first)), |earned| (earned, 0.0)))
    }

    /// What is kept back from a class for those above it.
    fn kept_from(&self, class: usize) -> f64 {
        let lately = |paid: &&Option<Instant>| paid.is_some_and(|paid| self.as_of < paid + LATELY);
        let above = self.paid[..class].iter().filter(lately).count();
        let classes = u32::try_from(above).map_or(KEPT_CLASSES, |above| above.min(KEPT_CLASSES));
        self.rate.unwrap_or(0.0) * (KEPT * classes).as_secs_f64()
    }

    /// How long until something can be paid, if only time is missing.
    pub(crate) fn wait(&self, open: impl Fn(Class) -> bool) -> Option<Duration> {
        let rate = self.rate?;
        let (_, kept) = self.choose(open)?;
        let missing = (kept + 1.0 - self.tokens).max(0.0);
        Some(Duration::from_secs_f64(missing / rate).max(Duration::from_millis(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Streams that always want more, one for each class, some time after they were paid; what each got in so many seconds.
    fn run(scheduler: &mut Scheduler, streams: &[(Class, u64)], seconds: u64) -> Vec<u64> {
        let start = scheduler.as_of;
        let mut got = vec![0; streams.len()];
        let mut back: Vec<Option<u64>> = vec![Some(0); streams.len()];
        let turn = scheduler.turn();
        for step in 0..=seconds * 1000 {
            for (stream, (class, _)) in (0..).zip(streams) {
                let place = usize::try_from(stream).unwrap();
                if back[place].take_if(|back| *back <= step).is_some() {
                    scheduler.owe(*class, stream, turn);
                }
            }
            for stream in scheduler.pay(start + Duration::from_millis(step), |_| true) {
                let place = usize::try_from(stream).unwrap();
                got[place] += turn;
                back[place] = Some(step + streams[place].1);
            }
        }
        for (stream, (class, _)) in (0..).zip(streams) {
            scheduler.withdraw(*class, stream);
        }
        got
    }

    fn capped(cap: u64) -> Scheduler {
        let mut scheduler = Scheduler::new(Instant::now());
        scheduler.set(scheduler.as_of, Some(cap), 5);
        scheduler
    }

    #[test]
    fn the_first_class_gets_everything_but_the_shares_of_the_others() {
        let mut scheduler = capped(32_000);
        let got = run(
            &mut scheduler,
            &[Class::Requests, Class::Backlog, Class::Assets].map(|class| (class, 0)),
            20,
        );
        let total: u64 = got.iter().sum();
        assert!((630_000..=645_000).contains(&total), "{got:?}");
        for lower in &got[1..] {
            let share = *lower * 1000 / total;
            assert!((40..=60).contains(&share), "{got:?}");
        }
    }

    #[test]
    fn a_stream_that_comes_back_late_keeps_what_it_has_alone() {
        for late in [5, 20, 30, 45, 70, 200] {
            let alone = run(&mut capped(60_000), &[(Class::Sensors, late)], 20)[0];
            let both = [(Class::Sensors, late), (Class::Assets, 0)];
            let got = run(&mut capped(60_000), &both, 20);
            assert!(got[0] * 100 >= alone * 94, "{late} ms: {got:?}, alone {alone}");
            let total: u64 = got.iter().sum();
            assert!((1_190_000..=1_220_000).contains(&total), "{late} ms: {got:?}");
        }
    }

    #[test]
    fn a_class_alone_gets_everything_and_two_streams_of_one_class_the_same() {
        let mut scheduler = capped(10_000);
        let got = run(&mut scheduler, &[(Class::Assets, 0)], 10);
        assert!((99_000..=102_000).contains(&got[0]), "{got:?}");
        let got = run(&mut scheduler, &[(Class::Sensors, 0); 2], 10);
        assert!(got[0].abs_diff(got[1]) <= scheduler.turn(), "{got:?}");
    }

    #[test]
    fn quiet_time_is_made_up_for_in_part_only() {
        let mut scheduler = capped(1000);
        let later = scheduler.as_of + Duration::from_secs(60);
        (0..10).for_each(|stream| scheduler.owe(Class::Assets, stream, 100));
        assert_eq!(scheduler.pay(later, |_| true), [0, 1], "200 ms are 200 bytes");
        assert!(scheduler.wait(|_| true).unwrap() <= Duration::from_millis(2));
        assert!(scheduler.wait(|class| class != Class::Assets).is_none());
    }

    #[test]
    fn a_closed_class_waits_and_holds_up_nobody() {
        let mut scheduler = capped(1000);
        scheduler.owe(Class::Requests, 1, 10);
        scheduler.owe(Class::Assets, 2, 10);
        let later = scheduler.as_of + Duration::from_secs(1);
        assert_eq!(scheduler.pay(later, |class| class == Class::Assets), [2]);
        scheduler.reclass(Class::Requests, Class::Assets, 1);
        assert_eq!(scheduler.waiting(Class::Requests), 0);
        assert_eq!(scheduler.pay(later, |class| class == Class::Assets), [1]);
    }

    #[test]
    fn a_new_cap_is_not_held_up_by_what_the_old_one_let_through() {
        let mut scheduler = capped(1_000_000);
        scheduler.owe(Class::Assets, 1, 25_000);
        scheduler.owe(Class::Assets, 2, 25_000);
        let mut now = scheduler.as_of + Duration::from_millis(10);
        assert_eq!(scheduler.pay(now, |_| true), [1]);
        scheduler.set(now, Some(8000), 5);
        now += Duration::from_millis(1001);
        assert_eq!(scheduler.pay(now, |_| true), [2]);
        assert!(scheduler.wait(|_| true).is_none());
        scheduler.set(now, None, 5);
        scheduler.owe(Class::Assets, 2, u64::MAX);
        assert_eq!(scheduler.pay(now, |_| true), [2], "without a cap nobody waits");
    }

    #[test]
    fn what_a_stream_owed_when_it_ended_is_paid_by_the_others() {
        let mut scheduler = capped(1000);
        scheduler.owe(Class::Assets, 1, 1000);
        scheduler.leave(Class::Assets, 1);
        scheduler.owe(Class::Assets, 2, 10);
        let start = scheduler.as_of;
        assert!(
            scheduler
                .pay(start + Duration::from_millis(900), |_| true)
                .is_empty()
        );
        assert_eq!(scheduler.pay(start + Duration::from_millis(1101), |_| true), [2]);
    }
}
