//! How far a command has read the manifest, and when it does so again.

use std::time::{Duration, Instant};

/// How far the manifest was read.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    begun_at: Option<Instant>,
    after: Option<String>,
    /// Whether any of it was read since it was begun, and all of it.
    begun: bool,
    over: bool,
    /// Which reading it is, of those that named entries.
    reading: u32,
    /// Whether that one was read to its end.
    whole: bool,
}

/// For how long a listing is good.
const LISTING_AGE: Duration = Duration::from_secs(600);

impl Listing {
    /// Whether it was never begun, or is too old.
    pub(crate) fn stale(&self) -> bool {
        self.begun_at
            .is_none_or(|begun_at| begun_at.elapsed() > LISTING_AGE)
    }

    /// Starts at the first entry.
    pub(crate) fn begin(&mut self) {
        *self = Self {
            begun_at: Some(Instant::now()),
            reading: self.reading,
            whole: self.whole,
            ..Self::default()
        };
    }

    /// Has it begun again soon, as somebody has asked for something.
    pub(crate) fn outdate(&mut self) {
        self.begun_at = None;
    }

    /// Behind which entry it goes on; none when the last was read.
    pub(crate) fn next(&self) -> Option<Option<&str>> {
        (!self.over).then_some(self.after.as_deref())
    }

    /// Whether any of it was read.
    pub(crate) fn begun(&self) -> bool {
        self.begun
    }

    /// It names entries: it is another manifest.
    pub(crate) fn names(&mut self) {
        self.reading += 1;
    }

    /// Which reading it is, of those that named entries.
    pub(crate) fn reading(&self) -> u32 {
        self.reading
    }

    /// Whether that one was read to its end.
    pub(crate) fn whole(&self) -> bool {
        self.whole
    }

    /// Entries were read, this one last.
    pub(crate) fn read(&mut self, last: Option<String>) {
        self.begun = true;
        self.whole = false;
        self.after = last.or_else(|| self.after.take());
    }

    /// An answer that began behind `from` ended, and the next one begins behind `next`.
    pub(crate) fn ended(&mut self, from: Option<&str>, next: Option<String>) {
        self.begun = true;
        // What does not go on would be read for ever.
        let next = next.filter(|next| from != Some(next));
        self.over = next.is_none();
        self.whole = self.over;
        self.after = next.or_else(|| self.after.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_goes_on_where_it_was() {
        let mut listing = Listing::default();
        assert!(listing.stale());
        listing.begin();
        assert_eq!(listing.next(), Some(None));
        listing.read(Some("a".into()));
        assert_eq!(listing.next(), Some(Some("a")), "where it was cut");
        listing.ended(None, Some("b".into()));
        assert_eq!(listing.next(), Some(Some("b")));
        assert!(!listing.whole());
        listing.ended(Some("b"), Some("b".into()));
        assert!(listing.next().is_none() && listing.whole() && !listing.stale());
    }
}
