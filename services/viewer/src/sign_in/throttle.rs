//! Guessing passwords is made slow: after a few failures for a name, or from an address, each next try must wait longer.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures for one name before a wait.
const FOR_A_NAME: u32 = 5;
/// Failures from one address before a wait; many people may share one.
const FROM_AN_ADDRESS: u32 = 20;
const LONGEST: Duration = Duration::from_secs(300);
/// After so long without a try all is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(900);
/// More names and addresses than are kept in mind; beyond it the oldest is forgotten.
const MOST: usize = 4096;

#[derive(Debug, Clone, Copy)]
struct Tries {
    count: u32,
    last: Instant,
}

/// The tries that have not succeeded.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    tries: Mutex<HashMap<String, Tries>>,
}

fn pause(count: u32, free: u32) -> Duration {
    match count.checked_sub(free) {
        None => Duration::ZERO,
        Some(over) => Duration::from_secs(1 << over.min(9)).min(LONGEST),
    }
}

impl Throttle {
    /// Counts a try, or says how long to wait before the next. It counts as failed until [`Throttle::succeeded`], so that
    /// many at once are no way around.
    pub(crate) fn admit(&self, user: Option<&str>, address: &str, now: Instant) -> Result<(), Duration> {
        let keys = keys(user, address);
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        tries.retain(|_, tries| now.duration_since(tries.last) < FORGOTTEN);
        let wait = |(key, free): &(String, u32)| {
            let tries = tries.get(key)?;
            let over = tries.last + pause(tries.count, *free);
            over.checked_duration_since(now).filter(|wait| !wait.is_zero())
        };
        if let Some(wait) = keys.iter().filter_map(wait).max() {
            return Err(wait);
        }
        for (key, _) in keys {
            if tries.len() >= MOST && !tries.contains_key(&key) {
                let oldest = tries.iter().min_by_key(|(_, tries)| tries.last);
                if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                    tries.remove(&oldest);
                }
            }
            let known = tries.entry(key).or_insert(Tries { count: 0, last: now });
            known.count = known.count.saturating_add(1);
            known.last = now;
        }
        Ok(())
    }

    /// Forgets the failures for a name. Those from the address stay but for this one: one good account must not cover a
    /// search for others.
    pub(crate) fn succeeded(&self, user: Option<&str>, address: &str) {
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, _) in keys(user, address) {
            if key.starts_with("user ") {
                tries.remove(&key);
            } else if let Some(known) = tries.get_mut(&key) {
                known.count = known.count.saturating_sub(1);
            }
        }
    }
}

fn keys(user: Option<&str>, address: &str) -> Vec<(String, u32)> {
    // Whoever tries names may try long ones; a digest is short.
    let name = user.map(|user| (format!("user {}", super::secret::digest(user)), FOR_A_NAME));
    name.into_iter()
        .chain([(format!("address {address}"), FROM_AN_ADDRESS)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_with_failures_and_end_with_a_success() {
        let throttle = Throttle::default();
        let start = Instant::now();
        for _ in 0..5 {
            throttle.admit(Some("kim"), "a", start).unwrap();
        }
        assert_eq!(
            throttle.admit(Some("kim"), "b", start),
            Err(Duration::from_secs(1))
        );
        assert_eq!(throttle.admit(Some("lee"), "a", start), Ok(()));
        let later = start + Duration::from_secs(1);
        throttle.admit(Some("kim"), "b", later).unwrap();
        assert_eq!(
            throttle.admit(Some("kim"), "b", later),
            Err(Duration::from_secs(2))
        );
        throttle.succeeded(Some("kim"), "b");
        assert_eq!(throttle.admit(Some("kim"), "b", later), Ok(()));
    }

    #[test]
    fn one_address_cannot_try_many_names_and_waits_have_an_end() {
        let throttle = Throttle::default();
        let start = Instant::now();
        for name in 0..20 {
            throttle.admit(Some(&name.to_string()), "a", start).unwrap();
        }
        assert!(throttle.admit(Some("next"), "a", start).is_err());
        assert_eq!(throttle.admit(Some("next"), "b", start), Ok(()));
        assert_eq!(pause(u32::MAX, 5), LONGEST);
        assert_eq!(throttle.admit(Some("next"), "a", start + FORGOTTEN), Ok(()));
    }

    #[test]
    fn what_is_kept_in_mind_is_bounded() {
        let throttle = Throttle::default();
        for name in 0..MOST + 50 {
            let name = name.to_string();
            throttle.admit(Some(&name), &name, Instant::now()).unwrap();
        }
        assert!(throttle.tries.lock().unwrap().len() <= MOST);
    }
}
