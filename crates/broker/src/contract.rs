//! What every engine must do, as a suite that runs the same against each: [`contract_tests`](crate::contract_tests)
//! makes one test of each rule.
//!
//! Rules panic when they are broken and when they take longer than their limit. Each works in topics of its own, so
//! they may run at once against one server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a broken rule is told by a panic"
)]

mod consumers;
mod groups;
mod look;
mod probe;
mod records;
mod transactions;
mod upkeep;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

pub use consumers::*;
pub use groups::*;
pub use look::*;
pub use records::*;
pub use transactions::*;
pub use upkeep::*;

use crate::broker::Broker;
use crate::record::{Outgoing, Position, Record};
use crate::topics::TopicSpec;

type Making = Pin<Box<dyn Future<Output = Broker> + Send>>;

/// The engine under test.
pub struct Lab {
    make: Box<dyn Fn() -> Making + Send + Sync>,
    /// How long an ordinary rule may wait for something.
    pub limit: Duration,
    /// How long retention may take to delete a record that is a second old.
    pub retention: Duration,
    /// How long compaction may take; none: the engine may keep superseded records as long as it likes.
    pub compaction: Option<Duration>,
}

impl fmt::Debug for Lab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lab")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl Lab {
    /// A lab whose `make` opens the same broker again and again.
    pub fn new<F>(make: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Broker> + Send + 'static,
    {
        Self {
            make: Box::new(move || Box::pin(make())),
            limit: Duration::from_secs(30),
            retention: Duration::from_secs(30),
            compaction: Some(Duration::from_secs(60)),
        }
    }

    /// Opens the broker.
    pub async fn open(&self) -> Broker {
        (self.make)().await
    }

    async fn topic(&self, broker: &Broker, partitions: i32) -> String {
        let spec = TopicSpec::new(name("contract"), partitions);
        assert!(broker.create_topic(&spec).await.unwrap());
        spec.name
    }

    /// Waits until something holds.
    async fn eventually<F: Future<Output = Result<(), String>>>(&self, mut check: impl FnMut() -> F) {
        within(self.limit, &mut check).await;
    }
}

async fn within<F: Future<Output = Result<(), String>>>(limit: Duration, check: &mut impl FnMut() -> F) {
    let start = Instant::now();
    loop {
        match check().await {
            Ok(()) => return,
            Err(reason) => assert!(start.elapsed() < limit, "after {limit:?}: {reason}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn name(prefix: &str) -> String {
    format!("{prefix}-{:016x}", rand::random::<u64>())
}

fn text(record: &Record) -> String {
    String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned()
}

fn numbered(topic: &str, key: &str, numbers: impl IntoIterator<Item = usize>) -> Vec<Outgoing> {
    numbers
        .into_iter()
        .map(|n| Outgoing::new(topic, key, n.to_string().into_bytes()))
        .collect()
}

/// Reads a partition until so many records have come.
async fn read(lab: &Lab, broker: &Broker, position: Position, count: usize) -> Vec<Record> {
    let mut reader = broker.reader(&[position]).await.unwrap();
    let mut records = Vec::new();
    let reading = async {
        while records.len() < count {
            records.extend(
                reader
                    .next(count - records.len(), Duration::from_millis(200))
                    .await
                    .unwrap(),
            );
        }
    };
    timeout(lab.limit, reading)
        .await
        .expect("the records come in time");
    records
}

/// Makes one test of each rule: `contract_tests!(lab)` with `async fn lab() -> (Lab, Guard)`, where the guard keeps
/// what the engine needs (a directory); attributes for each test may follow.
#[macro_export]
macro_rules! contract_tests {
    ($lab:path $(, #[$attribute:meta])*) => {
        $crate::contract_tests!(@each $lab, [$(#[$attribute])*],
            order_is_kept_within_a_partition
            keys_go_where_java_puts_them
            topics_are_made_once_and_described
            a_topic_made_again_has_another_id
            unknown_topics_and_partitions_are_told
            headers_timestamps_and_bytes_come_back_exactly
            large_records_pass_and_larger_are_refused
            a_reader_waits_for_records_and_seeks
            offsets_outside_a_partition_are_errors
            read_to_end_sees_all
            records_survive_reopening
            members_share_partitions_and_hand_over
            commits_survive_reopening
            a_crash_before_the_commit_repeats_the_record
            the_lowest_unfinished_offset_is_committed
            poison_becomes_a_dead_letter_and_can_be_redriven
            retries_keep_the_order_of_a_key
            a_fatal_failure_and_a_panic_end_the_consumer
            handlers_run_at_once_up_to_the_bound
            stopping_waits_for_handlers_only_so_long
            topics_that_appear_are_found_by_suffix
            one_holds_the_lease_and_the_next_takes_over
            commits_for_a_group_are_taken_only_while_it_is_empty
            partitions_are_added_and_never_taken_away
            offsets_are_found_by_time
            a_transaction_is_seen_whole
            a_transaction_given_up_is_never_seen
            a_later_holder_fences_the_earlier
            old_records_are_deleted_and_offsets_go_on
            the_newest_record_of_a_key_stays
        );
    };
    (@each $lab:path, $attributes:tt, $($rule:ident)*) => {
        $($crate::contract_tests!(@one $lab, $attributes, $rule);)*
    };
    (@one $lab:path, [$(#[$attribute:meta])*], $rule:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $(#[$attribute])*
        async fn $rule() {
            let (lab, _guard) = $lab().await;
            $crate::contract::$rule(&lab).await;
        }
    };
}
