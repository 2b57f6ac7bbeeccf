//! How far a command has read the manifest, and when it does so again.

use std::time::{Duration, Instant};

/// How far the manifest was read.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    begun_at: Option<Instant>,
    after: Option<String>,
    pages: u32,
    size: usize,
    /// Which reading it is, of those that named entries.
    reading: u32,
    /// Whether that one was read to its end.
    whole: bool,
}

/// For how long a listing is good.
const LISTING_AGE: Duration = Duration::from_secs(600);
/// Entries of the first page. A page that came soon is followed by a larger one, since each costs a round trip, and one that
/// took long by a smaller one, since a cut loses it.
const FIRST_PAGE: usize = 100;
const LARGEST_PAGE: usize = 5000;
const SOON: Duration = Duration::from_secs(2);

impl Listing {
    /// Whether it was never begun, or is too old.
    pub(crate) fn stale(&self) -> bool {
        self.begun_at
            .is_none_or(|begun_at| begun_at.elapsed() > LISTING_AGE)
    }

    /// Starts at the first page.
    pub(crate) fn begin(&mut self) {
        *self = Self {
            begun_at: Some(Instant::now()),
            // What the way was good for at last.
            size: self.size.max(FIRST_PAGE),
            reading: self.reading,
            whole: self.whole,
            ..Self::default()
        };
    }

    /// Has it begun again soon, as somebody has asked for something.
    pub(crate) fn outdate(&mut self) {
        self.begun_at = None;
    }

    /// Where the next page begins and how long it is; none when the last was read.
    pub(crate) fn next(&self) -> Option<(Option<String>, usize)> {
        (self.pages == 0 || self.after.is_some()).then(|| (self.after.clone(), self.size))
    }

    /// Whether any of its pages was read.
    pub(crate) fn begun(&self) -> bool {
        self.pages > 0
    }

    /// Its first page names entries: it is another manifest.
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

    /// A page was read.
    pub(crate) fn read(&mut self, next: Option<String>, took: Duration) {
        self.pages += 1;
        self.after = next.filter(|next| self.after.as_ref() != Some(next));
        self.whole = self.after.is_none();
        let size = if took < SOON { self.size * 4 } else { self.size / 4 };
        self.size = size.clamp(FIRST_PAGE, LARGEST_PAGE);
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
        assert_eq!(listing.next(), Some((None, 100)));
        listing.read(Some("a".into()), Duration::ZERO);
        assert_eq!(listing.next(), Some((Some("a".into()), 400)));
        listing.read(Some("b".into()), SOON);
        assert_eq!(listing.next(), Some((Some("b".into()), 100)));
        listing.read(None, SOON);
        assert!(listing.next().is_none() && !listing.stale());
    }
}
