//! What a catalogue says of one asset, and of those it could not say it well enough.

/// One asset of a catalogue, its texts plain and bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its own id in the catalogue.
    pub native_id: String,
    /// Plain text.
    pub title: String,
    /// Plain text.
    pub description: String,
    /// Where the bytes are; none where the catalogue does not say, or where this service serves them.
    pub link: Option<String>,
    /// Whom to name.
    pub credit: Option<String>,
    /// When the asset was made, in milliseconds since the Unix epoch.
    pub created_at: Option<i64>,
}

/// An entry that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Which one: its id, or its place.
    pub entry: String,
    /// Why.
    pub reason: String,
}

/// What a catalogue held when it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The entries, in the catalogue's order.
    pub entries: Vec<Entry>,
    /// Those that could not be read.
    pub rejected: Vec<Rejected>,
}

impl Listing {
    pub(crate) fn reject(&mut self, entry: impl Into<String>, reason: impl ToString) {
        let bounded = |text: String| text.chars().take(200).collect();
        self.rejected.push(Rejected {
            entry: bounded(entry.into()),
            reason: bounded(reason.to_string()),
        });
    }
}
