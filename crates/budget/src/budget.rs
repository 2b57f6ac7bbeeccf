//! The handle that all who use the link share.

use std::collections::HashMap;
use std::fmt::{self, Debug, Formatter};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use jiff::{Timestamp, ToSpan as _, Zoned};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::class::Class;
use crate::error::Result;
use crate::hold::Hold;
use crate::ledger::Ledger;
use crate::pacer;
use crate::recent::Recent;
use crate::scheduler::Scheduler;
use crate::settings::{Plan, Settings};
use crate::shaped::Shaped;
use crate::status::{ClassStatus, Spending, Status};
use crate::system;

type Clock = Box<dyn Fn() -> Timestamp + Send + Sync>;

/// The one scheduler of a link; clones are the same.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Inner>);

pub(crate) struct Inner {
    state: Mutex<State>,
    path: Option<PathBuf>,
    clock: Clock,
    /// There is something for the pacer to do.
    work: Arc<Notify>,
    /// Counts the changes of what may cross.
    changes: watch::Sender<u64>,
    streams: AtomicU64,
    pacer: Mutex<Option<AbortHandle>>,
}

struct State {
    plan: Plan,
    scheduler: Scheduler,
    ledger: Ledger,
    /// What the file holds.
    kept: Ledger,
    recent: Recent,
    streams: HashMap<u64, Direction>,
    /// Which classes may cross.
    open: [bool; Class::ALL.len()],
    /// Whether nothing at all may cross.
    paused: bool,
    /// As of the last tick: whether a window is open.
    in_window: bool,
    round_trip: Duration,
}

/// One direction of a stream.
struct Direction {
    class: Class,
    /// It has a bill that is not paid yet.
    owes: bool,
    waker: Option<Waker>,
}

impl Debug for Inner {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Budget {
    /// Starts to schedule, with what `path` says was spent before. Must be called within a runtime.
    ///
    /// A file that cannot be understood is told as an error in the log, and counting starts anew.
    ///
    /// # Errors
    /// When the settings cannot work, or the file cannot be written.
    pub fn open(settings: Settings, path: &Path) -> Result<Self> {
        let ledger = Ledger::read(path).unwrap_or_else(|error| {
            tracing::error!(path = %path.display(), %error, "cannot read what was spent; counting starts anew");
            None
        });
        let ledger = ledger.unwrap_or_default();
        ledger.write(path).map_err(|source| crate::Error::State {
            path: path.to_owned(),
            source,
        })?;
        Self::build(settings, ledger, Some(path.to_owned()), Box::new(Timestamp::now))
    }

    /// A budget that forgets what was spent when it ends, for tests and for tools that run once.
    ///
    /// # Errors
    /// When the settings cannot work.
    pub fn detached(settings: Settings) -> Result<Self> {
        Self::build(settings, Ledger::default(), None, Box::new(Timestamp::now))
    }

    pub(crate) fn build(
        settings: Settings,
        ledger: Ledger,
        path: Option<PathBuf>,
        clock: Clock,
    ) -> Result<Self> {
        let plan = Plan::new(settings)?;
        let now = Instant::now();
        let mut scheduler = Scheduler::new(now);
        scheduler.set(now, plan.settings.cap.map(|cap| cap.bytes()), plan.settings.share);
        let mut state = State {
            plan,
            scheduler,
            kept: ledger.clone(),
            ledger,
            recent: Recent::new(now),
            streams: HashMap::new(),
            open: [true; Class::ALL.len()],
            paused: false,
            in_window: true,
            round_trip: Duration::from_millis(100),
        };
        state.look(clock());
        let work = Arc::new(Notify::new());
        let inner = Arc::new(Inner {
            state: Mutex::new(state),
            path,
            clock,
            work: Arc::clone(&work),
            changes: watch::Sender::new(0),
            streams: AtomicU64::new(0),
            pacer: Mutex::default(),
        });
        let pacer = tokio::spawn(pacer::run(Arc::downgrade(&inner), work));
        *inner.pacer.lock().unwrap_or_else(PoisonError::into_inner) = Some(pacer.abort_handle());
        Ok(Self(inner))
    }

    /// Puts a stream under the budget: what it reads and writes from now on is counted in `class` and waits for its
    /// turn. It belongs below TLS. Sockets of the system are better made by [`Budget::connect`].
    pub fn shape<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S, class: Class) -> Shaped<S> {
        Shaped::new(Arc::clone(&self.0), stream, class, None)
    }

    /// Connects, with the system's buffers as small as the cap wants them, so that what waits there is little.
    ///
    /// # Errors
    /// A [`Hold`] as the error's inner one when the class may not cross now; else as of a `TcpStream`.
    pub async fn connect(
        &self,
        address: impl ToSocketAddrs,
        class: Class,
    ) -> std::io::Result<Shaped<TcpStream>> {
        self.admits(class).map_err(std::io::Error::other)?;
        let (stream, took) = system::connect(address, self.0.buffer()).await?;
        self.0.lock().round_trip = took;
        Ok(self.adopt(stream, class))
    }

    /// Puts a socket under the budget, its buffers too.
    pub fn adopt(&self, stream: TcpStream, class: Class) -> Shaped<TcpStream> {
        Shaped::new(Arc::clone(&self.0), stream, class, Some(|stream| stream))
    }

    /// Takes new settings; they are in effect when this returns.
    ///
    /// # Errors
    /// When they cannot work; then nothing changes.
    pub fn set(&self, settings: Settings) -> Result<()> {
        let plan = Plan::new(settings)?;
        let (cap, share) = (plan.settings.cap.map(|cap| cap.bytes()), plan.settings.share);
        self.0.change(|state| {
            state.plan = plan;
            state.scheduler.set(Instant::now(), cap, share);
        });
        Ok(())
    }

    /// The settings in effect.
    pub fn settings(&self) -> Settings {
        self.0.lock().plan.settings.clone()
    }

    /// The most bytes in a second, if there is a cap.
    pub fn cap(&self) -> Option<u64> {
        self.0.lock().plan.settings.cap.map(|cap| cap.bytes())
    }

    /// Lets so many more bytes of bulk cross a metered link.
    pub fn confirm(&self, bytes: u64) {
        self.0
            .change(|state| state.ledger.confirmed = state.ledger.confirmed.saturating_add(bytes));
    }

    /// The same by an order that may be heard again: only one that is newer than the last counts. Says whether it did.
    pub fn confirm_once(&self, order: i64, bytes: u64) -> bool {
        let now = (self.0.clock)();
        let mut counts = false;
        self.0.change(|state| {
            counts = state.ledger.hear(order, now);
            if counts {
                state.ledger.confirmed = bytes;
            }
        });
        counts
    }

    /// Lets nothing cross, or lets it again; until told otherwise it may.
    pub fn pause(&self, paused: bool) {
        self.0.change(|state| state.paused = paused);
    }

    /// Takes back what was confirmed and has not crossed.
    pub fn retract(&self) {
        self.0.change(|state| state.ledger.confirmed = 0);
    }

    /// Whether a class may cross now.
    ///
    /// # Errors
    /// Why not.
    pub fn admits(&self, class: Class) -> Result<(), Hold> {
        let now = (self.0.clock)();
        let state = self.0.lock();
        let zoned = now.to_zoned(state.plan.zone.clone());
        state.hold(class, &zoned).map_or(Ok(()), Err)
    }

    /// How many bytes of a class may cross before it is held for them, if nothing else crosses; none when that has no limit.
    pub fn left(&self, class: Class) -> Option<u64> {
        self.0.lock().left(class)
    }

    /// Waits until a class may cross.
    pub async fn admitted(&self, class: Class) {
        let mut changes = self.0.changes.subscribe();
        while self.admits(class).is_err() {
            // The sender is held by `self`.
            drop(changes.changed().await);
        }
    }

    /// Hears of every change of the settings and of what may cross.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        let now = (self.0.clock)();
        let state = self.0.lock();
        state.status(now)
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let now = (self.clock)();
        let mut state = self.lock();
        change(&mut state);
        state.look(now);
        drop(state);
        self.changes.send_modify(|count| *count += 1);
        self.work.notify_one();
    }

    /// Registers a direction of a stream.
    pub(crate) fn enter(&self, class: Class) -> u64 {
        let id = self.streams.fetch_add(1, Ordering::Relaxed);
        let direction = Direction {
            class,
            owes: false,
            waker: None,
        };
        self.lock().streams.insert(id, direction);
        id
    }

    pub(crate) fn leave(&self, id: u64) {
        let mut state = self.lock();
        if let Some(direction) = state.streams.remove(&id) {
            state.scheduler.leave(direction.class, id);
        }
    }

    pub(crate) fn reclass(&self, id: u64, class: Class) {
        let state = &mut *self.lock();
        if let Some(direction) = state.streams.get_mut(&id) {
            let from = std::mem::replace(&mut direction.class, class);
            state.scheduler.reclass(from, class, id);
        }
    }

    /// How many bytes the direction may move now; pending while its bill is not paid or its class is held.
    pub(crate) fn admit(&self, id: u64, context: &Context<'_>) -> Poll<usize> {
        let state = &mut *self.lock();
        let Some(direction) = state.streams.get_mut(&id) else {
            return Poll::Ready(0);
        };
        if !direction.owes && state.open[direction.class.index()] {
            return Poll::Ready(usize::try_from(state.scheduler.turn()).unwrap_or(usize::MAX));
        }
        direction.waker = Some(context.waker().clone());
        if !direction.owes {
            direction.owes = true;
            state.scheduler.owe(direction.class, id, 0);
        }
        Poll::Pending
    }

    /// Bytes of the direction have crossed.
    pub(crate) fn crossed(&self, id: u64, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let now = Instant::now();
        let state = &mut *self.lock();
        let Some(direction) = state.streams.get_mut(&id) else {
            return;
        };
        let class = direction.class;
        state.ledger.add(class, bytes, state.plan.settings.metered);
        state.recent.add(now, bytes);
        if !direction.owes {
            direction.owes = true;
            state.scheduler.owe(class, id, bytes);
        }
        let shut = state.shut_if_spent();
        state.settle(now);
        let wait = state.streams.get(&id).is_some_and(|direction| direction.owes);
        if wait {
            self.work.notify_one();
        }
        if shut {
            self.changes.send_modify(|count| *count += 1);
        }
    }

    /// What the pacer does: looks at the calendar when told to, pays what can be paid, and says when to come again.
    pub(crate) fn tick(&self, look: bool) -> Option<Duration> {
        let now = (self.clock)();
        let mut state = self.lock();
        let changed = look && state.look(now);
        state.settle(Instant::now());
        let open = state.open;
        let wait = state.scheduler.wait(|class| open[class.index()]);
        drop(state);
        if changed {
            self.changes.send_modify(|count| *count += 1);
        }
        wait
    }

    /// What is to be kept, if it is not kept yet, and where.
    pub(crate) fn unkept(&self) -> Option<(Ledger, PathBuf)> {
        let state = self.lock();
        let path = self.path.as_ref()?;
        (state.ledger != state.kept).then(|| (state.ledger.clone(), path.clone()))
    }

    pub(crate) fn kept(&self, ledger: Ledger) {
        self.lock().kept = ledger;
    }

    /// How many bytes the system may hold for a socket; none when it may decide.
    pub(crate) fn buffer(&self) -> Option<u32> {
        let state = self.lock();
        state
            .plan
            .settings
            .cap
            .map(|cap| system::buffer(cap.bytes(), state.round_trip))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(pacer) = self.pacer.get_mut().unwrap_or_else(PoisonError::into_inner) {
            pacer.abort();
        }
        if let Some((ledger, path)) = self.unkept()
            && let Err(error) = ledger.write(&path)
        {
            tracing::error!(path = %path.display(), %error, "cannot keep what was spent");
        }
    }
}

impl State {
    /// Looks at the calendar and the limits; whether anything changed for any class.
    fn look(&mut self, now: Timestamp) -> bool {
        let zoned = now.to_zoned(self.plan.zone.clone());
        self.ledger.roll(&zoned);
        let windows = &self.plan.settings.windows;
        self.in_window = windows.is_empty() || windows.iter().any(|window| window.contains(zoned.datetime()));
        let open = Class::ALL.map(|class| self.may_cross(class));
        let changed = open != self.open;
        self.open = open;
        changed
    }

    /// What a class may use of a byte budget.
    fn limit(&self, class: Class, limit: units::ByteSize) -> u64 {
        if class.bulk() {
            self.plan.without_reserve(limit.bytes())
        } else {
            limit.bytes()
        }
    }

    fn spent(&self, class: Class, limit: Option<units::ByteSize>, bytes: u64) -> bool {
        limit.is_some_and(|limit| bytes >= self.limit(class, limit))
    }

    fn left(&self, class: Class) -> Option<u64> {
        let settings = &self.plan.settings;
        let day = settings.per_day.map(|limit| (limit, self.ledger.day.total()));
        let month = settings.per_month.map(|limit| (limit, self.ledger.month.total()));
        let limits = day.into_iter().chain(month);
        let left = limits.map(|(limit, spent)| self.limit(class, limit).saturating_sub(spent));
        let confirmed = (settings.metered && class.bulk()).then_some(self.ledger.confirmed);
        left.chain(confirmed).min()
    }

    fn may_cross(&self, class: Class) -> bool {
        let settings = &self.plan.settings;
        let unconfirmed = settings.metered && class.bulk() && self.ledger.confirmed == 0;
        let spent = self.spent(class, settings.per_day, self.ledger.day.total())
            || self.spent(class, settings.per_month, self.ledger.month.total());
        self.in_window && !self.paused && !spent && !unconfirmed
    }

    /// Closes what has just spent its bytes; whether there was any.
    fn shut_if_spent(&mut self) -> bool {
        let settings = &self.plan.settings;
        if !settings.metered && settings.per_day.is_none() && settings.per_month.is_none() {
            return false;
        }
        let open = Class::ALL.map(|class| self.open[class.index()] && self.may_cross(class));
        let changed = open != self.open;
        self.open = open;
        changed
    }

    fn settle(&mut self, now: Instant) {
        let open = self.open;
        for id in self.scheduler.pay(now, |class| open[class.index()]) {
            if let Some(direction) = self.streams.get_mut(&id) {
                direction.owes = false;
                if let Some(waker) = direction.waker.take() {
                    waker.wake();
                }
            }
        }
    }

    fn hold(&self, class: Class, now: &Zoned) -> Option<Hold> {
        let settings = &self.plan.settings;
        let windows = &settings.windows;
        if self.paused {
            return Some(Hold::Paused);
        }
        if !windows.is_empty() && !windows.iter().any(|window| window.contains(now.datetime())) {
            let opens = windows.iter().filter_map(|window| window.opens_after(now)).min();
            let until = opens.map(|opens| opens.timestamp().as_millisecond());
            return Some(Hold::Window { until });
        }
        if self.spent(class, settings.per_day, self.ledger.day.total()) {
            return Some(Hold::Day { until: ends(now).0 });
        }
        if self.spent(class, settings.per_month, self.ledger.month.total()) {
            return Some(Hold::Month { until: ends(now).1 });
        }
        (settings.metered && class.bulk() && self.ledger.confirmed == 0).then_some(Hold::Unconfirmed)
    }

    fn status(&self, now: Timestamp) -> Status {
        let zoned = now.to_zoned(self.plan.zone.clone());
        let settings = &self.plan.settings;
        let (day, month) = ends(&zoned);
        let classes = Class::ALL.map(|class| ClassStatus {
            class,
            day: self.ledger.day.of(class),
            month: self.ledger.month.of(class),
            waiting: self.scheduler.waiting(class),
            held: self.hold(class, &zoned),
        });
        Status {
            cap: settings.cap.map(|cap| cap.bytes()),
            rate: self.recent.rate(Instant::now()),
            day: Spending {
                limit: settings.per_day.map(|limit| limit.bytes()),
                bytes: self.ledger.day.total(),
                until: day,
            },
            month: Spending {
                limit: settings.per_month.map(|limit| limit.bytes()),
                bytes: self.ledger.month.total(),
                until: month,
            },
            metered: settings.metered,
            confirmed: self.ledger.confirmed,
            classes: classes.to_vec(),
        }
    }
}

/// When the day and the month end.
fn ends(now: &Zoned) -> (i64, i64) {
    let start = |date: Result<jiff::civil::Date, jiff::Error>| {
        let zoned = date.and_then(|date| date.to_zoned(now.time_zone().clone()));
        zoned.map_or(i64::MAX, |zoned| zoned.timestamp().as_millisecond())
    };
    let next_month = now.date().first_of_month().checked_add(1.month());
    (start(now.date().tomorrow()), start(next_month))
}
