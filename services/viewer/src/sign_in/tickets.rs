//! One-time links: a secret that signs in once, as a name with a role. They are kept in memory only, as digests, so a
//! restart voids them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::role::Role;
use super::secret;

/// How long a link can be used.
pub(crate) const LIFETIME: Duration = Duration::from_secs(600);
/// More links than anybody hands out at once; beyond it the oldest is void.
const MOST: usize = 256;

/// Whom a link signs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) user: String,
    pub(crate) role: Role,
    /// Whether the name is one of the site's users.
    pub(crate) local: bool,
}

/// The links that were not used yet.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    open: Mutex<HashMap<blake3::Hash, Open>>,
}

#[derive(Debug)]
struct Open {
    ticket: Ticket,
    made: Instant,
    lifetime: Option<Duration>,
}

impl Open {
    fn alive(&self, now: Instant) -> bool {
        self.lifetime
            .is_none_or(|lifetime| now.duration_since(self.made) < lifetime)
    }
}

impl Tickets {
    /// Makes one; without a lifetime it lasts until it is used.
    pub(crate) fn make(&self, ticket: Ticket, lifetime: Option<Duration>, now: Instant) -> String {
        let text = secret::make();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, link| link.alive(now));
        if open.len() >= MOST {
            let oldest = open.iter().min_by_key(|(_, link)| link.made);
            if let Some(oldest) = oldest.map(|(digest, _)| *digest) {
                open.remove(&oldest);
            }
        }
        let link = Open {
            ticket,
            made: now,
            lifetime,
        };
        open.insert(secret::digest(&text), link);
        text
    }

    /// Whom a link signs in; from now on nobody.
    pub(crate) fn take(&self, text: &str, now: Instant) -> Option<Ticket> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let link = open.remove(&secret::digest(text))?;
        link.alive(now).then_some(link.ticket)
    }

    /// Voids the links of a name.
    pub(crate) fn forget(&self, user: &str) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, link| link.ticket.user != user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(user: &str) -> Ticket {
        Ticket {
            user: user.to_owned(),
            role: Role::Field,
            local: false,
        }
    }

    #[test]
    fn a_link_works_once_and_for_ten_minutes() {
        let tickets = Tickets::default();
        let now = Instant::now();
        let link = tickets.make(ticket("kim"), Some(LIFETIME), now);
        assert_eq!(tickets.take(&link, now), Some(ticket("kim")));
        assert_eq!(tickets.take(&link, now), None);
        let late = tickets.make(ticket("kim"), Some(LIFETIME), now);
        assert_eq!(tickets.take(&late, now + LIFETIME), None);
        let lasting = tickets.make(ticket("kim"), None, now);
        assert!(tickets.take(&lasting, now + 100 * LIFETIME).is_some());
        assert_eq!(tickets.take("guess", now), None);
    }

    #[test]
    fn links_are_bounded_and_end_with_their_user() {
        let tickets = Tickets::default();
        let now = Instant::now();
        let kept = tickets.make(ticket("lee"), None, now + Duration::from_secs(1));
        for _ in 0..2 * MOST {
            tickets.make(ticket("kim"), None, now);
        }
        assert_eq!(tickets.open.lock().unwrap().len(), MOST);
        tickets.forget("kim");
        assert_eq!(tickets.open.lock().unwrap().len(), 1);
        assert!(tickets.take(&kept, now).is_some());
    }
}
