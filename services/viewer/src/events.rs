//! What is told to the pages that are open, as it happens: a bounded past in memory, and whoever listens.
//!
//! Each event has a number; a listener that comes back says the last it had and gets what it missed. Where that is no
//! longer known, or a listener is too slow, it is told `reset`: it reads anew what it shows.

mod lanes;
mod requests;
mod tell;
mod usage;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::{Semaphore, broadcast};

pub(crate) use lanes::{Lane, Lanes, LanesView};
pub(crate) use requests::{Followed, follow as follow_requests};
pub(crate) use tell::run as tell;
pub(crate) use usage::{Usage, UsageView};

/// How many may listen at once.
pub(crate) const MAX_LISTENERS: usize = 64;
/// The past that is kept, in events and in bytes.
const MAX_EVENTS: usize = 1000;
const MAX_BYTES: usize = 1024 * 1024;
/// How far a listener may fall behind.
const QUEUE: usize = 64;

/// The kinds of events.
pub(crate) const NAMES: [&str; 15] = [
    "hello",
    "assets",
    "services",
    "logs",
    "problems",
    "sites",
    "requests",
    "lanes",
    "link",
    "mirror",
    "volume",
    "history",
    "dead_letters",
    "audit",
    "users",
];
/// Tells a listener to read anew what it shows.
pub(crate) const RESET: &str = "reset";

/// Something that happened.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) number: u64,
    pub(crate) name: &'static str,
    /// JSON on one line.
    pub(crate) data: Box<str>,
}

#[derive(Debug, Default)]
struct Past {
    newest: u64,
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// What was last said of what is told only when it changes.
    said: HashMap<&'static str, blake3::Hash>,
}

/// Where events go.
#[derive(Debug)]
pub(crate) struct Hub {
    epoch: String,
    past: Mutex<Past>,
    live: broadcast::Sender<Arc<Event>>,
    pub(crate) listeners: Arc<Semaphore>,
}

/// A listener's beginning.
#[derive(Debug)]
pub(crate) struct Start {
    /// What it missed.
    pub(crate) missed: Vec<Arc<Event>>,
    /// Whether what it missed is not known.
    pub(crate) reset: bool,
    /// The last event before what follows.
    pub(crate) at: u64,
    pub(crate) live: broadcast::Receiver<Arc<Event>>,
}

impl Hub {
    /// A hub whose numbers mean nothing to those who listened to one that started at another time.
    pub(crate) fn new(started_at: i64) -> Self {
        Self {
            epoch: format!("{started_at:x}"),
            past: Mutex::default(),
            live: broadcast::Sender::new(QUEUE),
            listeners: Arc::new(Semaphore::new(MAX_LISTENERS)),
        }
    }

    pub(crate) fn epoch(&self) -> &str {
        &self.epoch
    }

    /// An event's name for who comes back.
    pub(crate) fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.epoch)
    }

    /// Tells all who listen.
    pub(crate) fn publish<T: Serialize>(&self, name: &'static str, what: &T) {
        self.put(name, what, None::<&()>);
    }

    /// Tells all who listen, unless it is what was said last.
    pub(crate) fn changed<T: Serialize>(&self, name: &'static str, what: &T) {
        self.put(name, what, Some(what));
    }

    /// Tells all who listen, unless `seen`, the part of it that readers see change, is as it was last.
    pub(crate) fn changed_in<T: Serialize, S: Serialize>(&self, name: &'static str, what: &T, seen: &S) {
        self.put(name, what, Some(seen));
    }

    fn put<T: Serialize, S: Serialize>(&self, name: &'static str, what: &T, seen: Option<&S>) {
        let data = match serde_json::to_string(what) {
            Ok(data) => data,
            Err(error) => {
                tracing::warn!(name, %error, "an event cannot be written");
                return;
            }
        };
        let mut past = self.past();
        if let Some(seen) = seen {
            let hash = blake3::hash(&serde_json::to_vec(seen).unwrap_or_default());
            if past.said.insert(name, hash) == Some(hash) {
                return;
            }
        }
        past.newest += 1;
        let event = Arc::new(Event {
            number: past.newest,
            name,
            data: data.into(),
        });
        past.bytes += event.data.len();
        past.events.push_back(event.clone());
        while past.events.len() > MAX_EVENTS || past.bytes > MAX_BYTES {
            let Some(oldest) = past.events.pop_front() else {
                break;
            };
            past.bytes -= oldest.data.len();
        }
        // Sent while the past is held, so that who begins to listen misses nothing and hears nothing twice. An error
        // says that nobody listens.
        drop(self.live.send(event));
    }

    /// Begins to listen, behind the event of an id if one is given.
    pub(crate) fn listen(&self, after: Option<&str>) -> Start {
        let past = self.past();
        let newest = past.newest;
        let mut start = Start {
            missed: Vec::new(),
            reset: false,
            at: newest,
            live: self.live.subscribe(),
        };
        let Some(after) = after else { return start };
        let number = after
            .rsplit_once('-')
            .filter(|(epoch, _)| *epoch == self.epoch)
            .and_then(|(_, number)| number.parse::<u64>().ok());
        let oldest = past.events.front().map_or(newest + 1, |event| event.number);
        match number {
            Some(number) if number <= newest && number + 1 >= oldest => {
                let missed = past.events.iter().filter(|event| event.number > number);
                start.missed = missed.cloned().collect();
                start.at = number;
            }
            _ => start.reset = true,
        }
        start
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(start: &Start) -> Vec<u64> {
        start.missed.iter().map(|event| event.number).collect()
    }

    #[test]
    fn who_comes_back_hears_what_it_missed_or_is_told_to_read_anew() {
        let hub = Hub::new(0xabc);
        for number in 1..=5 {
            hub.publish("assets", &number);
        }
        assert_eq!(numbers(&hub.listen(Some("abc-3"))), [4, 5]);
        assert_eq!(numbers(&hub.listen(None)), [0u64; 0]);
        let last = hub.listen(Some("abc-5"));
        assert!(!last.reset && last.missed.is_empty());
        for unknown in ["abd-3", "abc-6", "abc-x", "", "abc"] {
            assert!(hub.listen(Some(unknown)).reset, "{unknown}");
        }
    }

    #[test]
    fn the_past_is_bounded_in_number_and_in_bytes() {
        let hub = Hub::new(1);
        for number in 0..MAX_EVENTS + 10 {
            hub.publish("assets", &number);
        }
        assert!(hub.listen(Some("1-5")).reset);
        assert_eq!(hub.listen(Some("1-10")).missed.len(), MAX_EVENTS);
        hub.publish("assets", &"x".repeat(MAX_BYTES - 1000));
        hub.publish("assets", &"y".repeat(2000));
        let newest = hub.past().newest;
        assert_eq!(numbers(&hub.listen(Some(&hub.id(newest - 1)))), [newest]);
        assert!(hub.listen(Some(&hub.id(newest - 2))).reset);
    }

    #[test]
    fn what_did_not_change_is_not_told_again() {
        let hub = Hub::new(1);
        hub.changed("link", &1);
        hub.changed("link", &1);
        hub.changed("mirror", &1);
        hub.changed("link", &2);
        assert_eq!(hub.past().newest, 3);
        hub.changed_in("services", &1, &"seen");
        hub.changed_in("services", &2, &"seen");
        assert_eq!(hub.past().newest, 4);
    }
}
