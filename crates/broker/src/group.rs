//! A consumer group as an operator sees it.

/// A consumer group that a broker knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its name.
    pub name: String,
    /// Who is in it now, as the engine can name them; a group without members only has commits.
    pub members: Vec<String>,
}
