//! How much the volume may hold. Whoever brings an object takes room for all of it before its first byte.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

/// The room that is left, of a quota or of none.
#[derive(Debug, Default)]
pub(crate) struct Room(Mutex<Space>);

#[derive(Debug, Default)]
struct Space {
    quota: Option<u64>,
    used: u64,
    taken: u64,
}

/// Room that is given back when the value goes, unless it was used.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    room: &'a Room,
    bytes: u64,
}

impl Room {
    pub(crate) fn new(quota: Option<u64>) -> Self {
        Self(Mutex::new(Space {
            quota,
            ..Space::default()
        }))
    }

    fn space(&self) -> MutexGuard<'_, Space> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anybody must know what is used.
    pub(crate) fn limited(&self) -> bool {
        self.space().quota.is_some()
    }

    /// Says what the volume holds, nothing being on its way.
    pub(crate) fn holds(&self, used: u64) {
        self.space().used = used;
    }

    /// # Errors
    /// [`Error::Quota`] when there is not so much room.
    pub(crate) fn take(&self, bytes: u64) -> Result<Place<'_>> {
        let mut space = self.space();
        if let Some(quota) = space.quota {
            let free = quota.saturating_sub(space.used + space.taken);
            if bytes > free {
                return Err(Error::Quota { bytes, free, quota });
            }
        }
        space.taken += bytes;
        Ok(Place { room: self, bytes })
    }
}

impl Place<'_> {
    /// The object is here.
    pub(crate) fn fill(self) {
        self.room.space().used += self.bytes;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.room.space().taken -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_before_and_given_back_by_what_did_not_come() {
        let room = Room::new(Some(100));
        room.holds(40);
        let first = room.take(50).unwrap();
        let refused = room.take(20).unwrap_err().to_string();
        assert!(refused.contains("10 B are free"), "{refused}");
        drop(first);
        room.take(60).unwrap().fill();
        assert!(room.take(1).is_err());
        assert!(!Room::new(None).limited() && Room::new(None).take(u64::MAX).is_ok());
    }
}
