//! How the budget stands, as pages and commands show it.

use serde::{Deserialize, Serialize};

use crate::class::Class;
use crate::hold::Hold;

/// A moment's view of the budget. Sizes are in bytes, times in milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The cap, in bytes per second.
    pub cap: Option<u64>,
    /// Bytes per second over the last ten seconds.
    pub rate: u64,
    /// The day so far.
    pub day: Spending,
    /// The month so far.
    pub month: Spending,
    /// Whether bulk is asked for first.
    pub metered: bool,
    /// What is left of the bulk that was confirmed.
    pub confirmed: u64,
    /// Every class, the first first.
    pub classes: Vec<ClassStatus>,
}

/// What was spent of a byte budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spending {
    /// The budget.
    pub limit: Option<u64>,
    /// What has crossed.
    pub bytes: u64,
    /// When it begins again.
    pub until: i64,
}

/// One class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassStatus {
    /// Which.
    pub class: Class,
    /// Its bytes of this day.
    pub day: u64,
    /// Its bytes of this month.
    pub month: u64,
    /// How many directions of its connections wait for their turn.
    pub waiting: usize,
    /// Why nothing of it may cross now.
    pub held: Option<Hold>,
}

impl Status {
    /// Why nothing of a class may cross now; none when it may.
    pub fn held(&self, class: Class) -> Option<Hold> {
        self.classes
            .iter()
            .find(|found| found.class == class)
            .and_then(|found| found.held)
    }
}
