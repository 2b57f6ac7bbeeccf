//! What one session tells the next about a record that the destination refuses, or that cannot go in a batch.
//!
//! A transaction fails as a whole, so the refused record is looked for: a Kafka says in which batch it is, and that one is
//! cut into smaller and smaller ones; an embedded broker does not, and gets record by record.

use common::telemetry;

use crate::pieces::Form;
use crate::refused::Refused;

/// How many records are carried one by one before batches that could not be read are tried again.
const DETOUR: usize = 10_000;
/// Into so many parts is cut what a refused record is in.
const FINER: usize = 16;

/// What is known of it.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    /// Among how many records the one is.
    pub(crate) one_by_one: usize,
    /// How large batches are at most while it is looked for; zero is as large as else.
    piece: usize,
    /// The one, which is to be put aside.
    pub(crate) refused: Option<Refused>,
    /// How many records to carry one by one because they cannot go in batches at all.
    by_record: usize,
}

impl Trouble {
    /// Whether all is as usual.
    pub(crate) fn over(&self) -> bool {
        self.batches() && !self.seeks()
    }

    /// Whether batches can be read.
    pub(crate) fn batches(&self) -> bool {
        self.by_record == 0
    }

    /// Whether a record is looked for, or is to be put aside.
    pub(crate) fn seeks(&self) -> bool {
        self.one_by_one > 0 || self.refused.is_some()
    }

    /// Counts down what was carried.
    pub(crate) fn carried(&mut self, records: usize) {
        self.one_by_one = self.one_by_one.saturating_sub(records);
        self.by_record = self.by_record.saturating_sub(records);
        if !self.seeks() {
            self.piece = 0;
        }
    }

    /// Batches cannot be read here.
    pub(crate) fn unreadable(&mut self) {
        self.by_record = DETOUR;
    }

    /// A transaction was refused for one of so many records, the last of them `last`; it is in a batch of so many bytes, or
    /// nobody knows in which.
    pub(crate) fn refused(
        &mut self,
        records: usize,
        bytes: usize,
        last: (String, i32, i64),
        source: &common::broker::Error,
    ) {
        let reason = telemetry::chain(source);
        if records > 1 {
            self.one_by_one = records;
            self.piece = if bytes == 0 { 0 } else { (bytes / FINER).max(1) };
            return;
        }
        tracing::warn!(
            topic = %last.0, partition = last.1, offset = last.2, error = %reason,
            "record is refused by the destination and put aside"
        );
        self.refused = Some(Refused { at: last, reason });
    }

    /// What pieces are to be like, so that the one is found and goes alone.
    pub(crate) fn form(&self, usual: Form) -> Form {
        match usual {
            usual if !self.seeks() => usual,
            Form::Records(_, bytes) => Form::Records(1, bytes),
            // What is too large is in a piece of its own in any case.
            Form::Batches(limit) => match (self.piece, &self.refused) {
                (0, _) => Form::Batches(limit),
                (_, Some(_)) => Form::Batches(1),
                (piece, None) => Form::Batches(limit.min(piece)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal() -> common::broker::Error {
        common::broker::Error::Refused {
            topic: "t".into(),
            reason: "of tomorrow".into(),
        }
    }

    fn limit(trouble: &Trouble) -> usize {
        match trouble.form(Form::Batches(1_000_000)) {
            Form::Batches(limit) => limit,
            Form::Records(..) => panic!("batches stay batches"),
        }
    }

    #[test]
    fn a_refused_batch_is_cut_finer_and_finer_until_the_record_is_known() {
        let mut trouble = Trouble::default();
        let (mut bytes, mut rounds) = (64_000, 0);
        assert_eq!(limit(&trouble), 1_000_000);
        while bytes > 1 {
            trouble.refused(5_000, bytes, ("t".into(), 0, 7), &refusal());
            bytes = limit(&trouble);
            rounds += 1;
        }
        assert_eq!(rounds, 4);
        trouble.refused(1, 1, ("t".into(), 0, 7), &refusal());
        assert_eq!(trouble.refused.as_ref().unwrap().at.2, 7);
        assert_eq!(limit(&trouble), 1);
        trouble.refused = None;
        assert!(trouble.seeks(), "there may be more of them");
        trouble.carried(5_000);
        assert!(trouble.over());
        assert_eq!(limit(&trouble), 1_000_000);
    }

    #[test]
    fn an_embedded_broker_gets_record_by_record_and_a_large_record_needs_no_search() {
        let mut trouble = Trouble::default();
        trouble.refused(300, 0, ("t".into(), 0, 7), &refusal());
        assert!(matches!(
            trouble.form(Form::Records(1000, 500)),
            Form::Records(1, 500)
        ));
        trouble = Trouble::default();
        trouble.refused(1, 2_000_000, ("t".into(), 0, 7), &refusal());
        assert_eq!(limit(&trouble), 1_000_000);
    }
}
