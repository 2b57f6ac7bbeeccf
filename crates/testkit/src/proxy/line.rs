//! What all connections of a proxy share: conditions, rate, orders to be cut, counters.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::{Carried, Conditions, Cut, End, Flow, Tap, Way};

/// How much sending that was missed may be made up for: more than a timer is late, less than anybody would notice.
const CATCH_UP: Duration = Duration::from_millis(20);

/// What happens to every open connection at once.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    /// Ended, both ends alike.
    Cut(Cut),
    /// Ended at one end; the other is told nothing.
    HalfOpen(End),
}

#[derive(Debug)]
pub(super) struct Line {
    conditions: watch::Sender<Conditions>,
    orders: watch::Sender<Option<Order>>,
    seed: u64,
    tap: Option<Arc<dyn Tap>>,
    lanes: [Mutex<LaneState>; 2],
    pieces: AtomicU64,
    connections: AtomicU64,
    cut: AtomicU64,
    flipped: AtomicU64,
}

/// One direction's rate and its next cut.
#[derive(Debug)]
struct LaneState {
    /// When the line will have sent what it was given.
    free_at: Instant,
    carried: u64,
    armed: Option<(u64, Cut)>,
    random: StdRng,
}

impl Line {
    pub(super) fn new(seed: u64, tap: Option<Arc<dyn Tap>>) -> Self {
        let lane = |salt: u64| {
            Mutex::new(LaneState {
                free_at: Instant::now(),
                carried: 0,
                armed: None,
                random: StdRng::seed_from_u64(seed.wrapping_add(salt)),
            })
        };
        Self {
            conditions: watch::Sender::new(Conditions::default()),
            orders: watch::Sender::new(None),
            seed,
            tap,
            lanes: [lane(1), lane(2)],
            pieces: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            flipped: AtomicU64::new(0),
        }
    }

    fn lane(&self, way: Way) -> MutexGuard<'_, LaneState> {
        let lane = match way {
            Way::Up => &self.lanes[0],
            Way::Down => &self.lanes[1],
        };
        // Nothing is left half changed by a panic in here.
        lane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn conditions(&self) -> Conditions {
        *self.conditions.borrow()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Conditions)) {
        self.conditions.send_modify(change);
    }

    pub(super) fn tell(&self, order: Order) {
        self.orders.send_replace(Some(order));
    }

    pub(super) fn orders(&self) -> watch::Receiver<Option<Order>> {
        self.orders.subscribe()
    }

    pub(super) fn arm(&self, way: Way, bytes: u64, cut: Cut) {
        self.lane(way).armed = Some((bytes, cut));
    }

    /// Returns when bytes may move.
    pub(super) async fn open(&self) {
        let mut conditions = self.conditions.subscribe();
        // The sender lives as long as self.
        let _open = conditions.wait_for(|now| now.flow == Flow::Open).await;
    }

    /// Returns when the line has sent so many bytes more.
    pub(super) async fn send(&self, way: Way, bytes: usize) {
        let Some(rate) = self.conditions().lane(way).rate.map(|rate| rate.max(1)) else {
            return;
        };
        let sent_at = {
            let mut lane = self.lane(way);
            let now = Instant::now();
            let from = lane.free_at.max(now.checked_sub(CATCH_UP).unwrap_or(now));
            lane.free_at = from + Duration::from_secs_f64(bytes as f64 / rate as f64);
            lane.free_at
        };
        sleep_until(sent_at).await;
    }

    /// How many of the next `bytes` go before a cut, and the cut.
    pub(super) fn until_cut(&self, way: Way, bytes: usize) -> (usize, Option<Cut>) {
        let now_and_then = self.conditions().lane(way).cut;
        let mut lane = self.lane(way);
        if let (None, Some(mean)) = (lane.armed, now_and_then) {
            let cut = if lane.random.random_bool(0.5) {
                Cut::Reset
            } else {
                Cut::Fin
            };
            lane.armed = Some((distance(&mut lane.random, mean), cut));
        }
        match lane.armed {
            Some((left, cut)) if left < bytes as u64 => {
                lane.armed = None;
                // Below `bytes`, so it fits.
                (usize::try_from(left).unwrap_or(bytes), Some(cut))
            }
            Some((left, cut)) => {
                lane.armed = Some((left - bytes as u64, cut));
                (bytes, None)
            }
            None => (bytes, None),
        }
    }

    pub(super) fn random(&self, connection: u64, way: Way) -> StdRng {
        let salt = connection.wrapping_mul(2) + u64::from(way == Way::Up);
        StdRng::seed_from_u64(self.seed.rotate_left(17) ^ salt)
    }

    pub(super) fn accepted(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ended(&self) {
        self.cut.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn flipped(&self) {
        self.flipped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn saw(&self, connection: u64, way: Way, bytes: &[u8]) {
        self.lane(way).carried += bytes.len() as u64;
        self.pieces.fetch_add(1, Ordering::Relaxed);
        if let Some(tap) = &self.tap {
            tap.saw(connection, way, bytes);
        }
    }

    pub(super) fn carried(&self) -> Carried {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Carried {
            up: self.lane(Way::Up).carried,
            down: self.lane(Way::Down).carried,
            pieces: count(&self.pieces),
            connections: count(&self.connections),
            cut: count(&self.cut),
            flipped: count(&self.flipped),
        }
    }
}

/// A random number of bytes with this mean, as if every byte were as likely as any other to be the one.
pub(super) fn distance(random: &mut StdRng, mean: u64) -> u64 {
    let uniform: f64 = random.random::<f64>().max(f64::MIN_POSITIVE);
    // Truncated on purpose: whole bytes, never negative.
    (-uniform.ln() * mean as f64) as u64
}
