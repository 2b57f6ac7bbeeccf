use std::convert::Infallible;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::definition::{Column, Definition, Kind};

const NOW: i64 = 1_000_000;

fn definition() -> Arc<Definition> {
    let column = |name: &str| Column {
        name: name.to_owned(),
        kind: Kind::Int,
    };
    let columns = ["key", "a", "b", "c"].map(column).to_vec();
    let name = "t".to_owned();
    Arc::new(Definition {
        name,
        columns,
        partition_columns: 1,
        clustering_columns: 0,
        descending: false,
    })
}

/// A row as the engine keeps it: stamps, and the values beside them.
#[derive(Debug, Default, PartialEq)]
struct Kept {
    stamps: Stamps,
    values: BTreeMap<usize, Value>,
}

impl Kept {
    fn write(&mut self, mutation: &Mutation) {
        let values = &self.values;
        let current = |place| Ok::<_, Infallible>(values.get(&place).cloned().unwrap_or(Value::Null));
        let Ok(changes) = self.stamps.apply(mutation, NOW, current);
        self.values.extend(changes);
    }

    fn seen(&self, now: i64) -> Option<Vec<Value>> {
        let seen = |place: usize| {
            let live = self.stamps.live(&definition().columns[place].name, now);
            if live {
                self.values[&place].clone()
            } else {
                Value::Null
            }
        };
        self.stamps.present(now).then(|| (1..4).map(seen).collect())
    }
}

fn upsert(timestamp: i64, cells: &[(usize, Option<i32>)], ttl: Option<i32>) -> Mutation {
    let cells = cells
        .iter()
        .map(|(place, value)| (*place, Value::from(*value)))
        .collect();
    Mutation {
        definition: definition(),
        key: vec![1.into()],
        timestamp,
        change: Change::Upsert { cells, ttl },
    }
}

fn delete(timestamp: i64) -> Mutation {
    Mutation {
        definition: definition(),
        key: vec![1.into()],
        timestamp,
        change: Change::Delete,
    }
}

fn after(writes: &[Mutation]) -> Kept {
    let mut kept = Kept::default();
    writes.iter().for_each(|write| kept.write(write));
    kept
}

#[test]
fn a_tie_is_won_by_the_tombstone_then_by_what_expires_then_by_the_larger_bytes() {
    let small = upsert(5, &[(1, Some(1))], None);
    let large = upsert(5, &[(1, Some(2))], None);
    let negative = upsert(5, &[(1, Some(-1))], None);
    let expiring = upsert(5, &[(1, Some(0))], Some(10));
    let null = upsert(5, &[(1, None)], None);
    let first = |kept: Kept| kept.seen(NOW).map(|seen| seen[0].clone());
    assert_eq!(first(after(&[large.clone(), small])), Some(2.into()));
    assert_eq!(
        first(after(&[negative, large.clone()])),
        Some((-1).into()),
        "bytes are compared unsigned"
    );
    assert_eq!(first(after(&[expiring.clone(), large.clone()])), Some(0.into()));
    assert_eq!(first(after(&[null, expiring, large])), Some(Value::Null));
}

#[test]
fn a_row_is_there_by_its_marker_or_by_a_live_cell() {
    let bare = after(&[upsert(5, &[], None)]);
    assert_eq!(bare.seen(NOW), Some(vec![Value::Null; 3]));
    let expiring = after(&[upsert(5, &[(1, Some(1))], Some(10))]);
    assert!(expiring.seen(NOW + 9).is_some());
    assert_eq!(expiring.seen(NOW + 10), None);
    let kept_by_a_cell = after(&[upsert(5, &[], Some(10)), upsert(4, &[(1, Some(1))], None)]);
    assert!(
        kept_by_a_cell.seen(NOW + 10).is_some(),
        "the younger marker expired, the older cell stays"
    );
}

#[test]
fn a_deletion_swallows_what_is_not_younger_whenever_it_comes() {
    for writes in [
        [upsert(5, &[(1, Some(1))], None), delete(5)],
        [delete(5), upsert(5, &[(1, Some(1))], None)],
    ] {
        assert_eq!(after(&writes).seen(NOW), None);
    }
    assert!(after(&[delete(5), upsert(6, &[], None)]).seen(NOW).is_some());
}

#[test]
fn tombstones_are_forgotten_after_the_grace_and_not_before() {
    let mut stamps = after(&[upsert(5, &[(1, Some(1)), (2, None)], Some(10)), delete(4)]).stamps;
    assert_eq!(stamps.due(NOW), Some(NOW + 10));
    assert_eq!(
        stamps.sweep(NOW + 10),
        ["a", "b"],
        "expired and deleted values are emptied"
    );
    assert_eq!(stamps.due(NOW + 10), Some(NOW + GRACE));
    stamps.sweep(NOW + GRACE - 1);
    assert!(!stamps.empty() && stamps.deleted.is_some());
    stamps.sweep(NOW + GRACE);
    assert!(stamps.deleted.is_none());
    assert_eq!(stamps.due(NOW + GRACE), Some(NOW + 10 + GRACE));
    stamps.sweep(NOW + 10 + GRACE);
    assert!(stamps.empty());
}

#[test]
fn stamps_survive_their_text_form() {
    let stamps = after(&[delete(4), upsert(5, &[(1, Some(1)), (2, None)], Some(10))]).stamps;
    let text = serde_json::to_string(&stamps).unwrap();
    assert_eq!(serde_json::from_str::<Stamps>(&text).unwrap(), stamps);
}

fn any_write() -> impl Strategy<Value = Mutation> {
    let cell = (1..4usize, proptest::option::of(-2..3i32));
    let cells = proptest::collection::btree_map(1..4usize, cell.prop_map(|(_, value)| value), 0..4);
    let ttl = proptest::option::weighted(0.3, 1..3i32);
    let write = (0..6i64, cells, ttl);
    prop_oneof![
        4 => write.prop_map(|(at, cells, ttl)| upsert(at, &cells.into_iter().collect::<Vec<_>>(), ttl)),
        1 => (0..6i64).prop_map(delete),
    ]
}

proptest! {
    #[test]
    fn the_order_of_arrival_does_not_matter(
        (writes, shuffled) in proptest::collection::vec(any_write(), 0..12)
            .prop_flat_map(|writes| (Just(writes.clone()), Just(writes).prop_shuffle())),
        later in 0..4i64,
    ) {
        let mut sorted = writes;
        sorted.sort_by_key(|write| write.timestamp);
        let (sorted, shuffled) = (after(&sorted), after(&shuffled));
        prop_assert_eq!(sorted.seen(NOW + later), shuffled.seen(NOW + later));
        prop_assert_eq!(sorted.stamps, shuffled.stamps);
    }

    #[test]
    fn a_replay_changes_nothing(writes in proptest::collection::vec(any_write(), 0..12)) {
        let once = after(&writes);
        let twice = writes.iter().chain(&writes).cloned().collect::<Vec<_>>();
        let twice = after(&twice);
        prop_assert_eq!(once.seen(NOW), twice.seen(NOW));
        prop_assert_eq!(once.stamps, twice.stamps);
    }
}
