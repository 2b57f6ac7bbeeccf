//! What a link says about itself: state, counters and gauges.

use std::sync::{Mutex, PoisonError};

use common::chassis::now_ms;
use common::control::Control;
use common::schemas::LostRange;

use crate::refused::Refused;
use crate::routes::Direction;

/// Both directions' word on the one state that a service has.
#[derive(Debug)]
pub(crate) struct Report {
    control: Control,
    problems: Mutex<[Option<String>; 2]>,
}

impl Report {
    pub(crate) fn new(control: Control) -> Self {
        Self {
            control,
            problems: Mutex::default(),
        }
    }

    /// Says what keeps a direction from working; none when nothing does.
    pub(crate) fn problem(&self, direction: Direction, problem: Option<String>) {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        problems[usize::from(direction == Direction::Up)] = problem;
        let all: Vec<String> = [Direction::Down, Direction::Up]
            .iter()
            .zip(problems.iter())
            .filter_map(|(direction, problem)| Some(format!("{direction}: {}", problem.as_ref()?)))
            .collect();
        if all.is_empty() {
            self.control.running()
        } else {
            self.control.waiting(all.join("; "))
        }
    }

    /// Counts carried records, which are contact as well.
    pub(crate) fn carried(&self, direction: Direction, records: usize) {
        let name = match direction {
            Direction::Down => "carried_down",
            Direction::Up => "carried_up",
        };
        self.control
            .count(name, i64::try_from(records).unwrap_or(i64::MAX));
        self.contact();
    }

    /// Both sides answered, and this many records wait.
    pub(crate) fn looked(&self, direction: Direction, lag: i64) {
        self.lag(direction, lag);
        self.contact();
    }

    /// This many records wait.
    pub(crate) fn lag(&self, direction: Direction, lag: i64) {
        let name = match direction {
            Direction::Down => "lag_records_down",
            Direction::Up => "lag_records_up",
        };
        #[expect(clippy::cast_precision_loss, reason = "a gauge for people")]
        self.control.gauge(name, lag as f64);
    }

    /// Records are gone before they were carried.
    pub(crate) fn lost(&self, topic: &str, partition: i32, range: &LostRange) {
        self.control.count("lost", range.count);
        self.control.error(format!(
            "{} records of {topic}/{partition} from offset {} are lost to the other site: {}",
            range.count, range.source, range.reason
        ));
    }

    /// A record went to the dead letters.
    pub(crate) fn refused(&self, refused: &Refused) {
        let (topic, partition, offset) = &refused.at;
        self.control.count("refused", 1);
        self.control.error(format!(
            "{topic}/{partition}/{offset} is among the dead letters: {}",
            refused.reason
        ));
    }

    /// The core answered.
    pub(crate) fn contact(&self) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "milliseconds fit for some 285,000 years"
        )]
        self.control.gauge("last_contact_at", now_ms() as f64);
    }
}
