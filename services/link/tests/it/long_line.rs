//! On a line with long round trips the link keeps it full all the same.

use std::time::Duration;

use common::broker::TopicSpec;
use testkit::proxy::{Conditions, Proxy};
use testkit::{eventually, tried};
use tokio::time::Instant;

use crate::at_once::random;
use crate::kafka::{Port, line};
use crate::rig::{LIMIT, Rig, contents};

const ROUND_TRIP: Duration = Duration::from_millis(600);

async fn long(mut rig: Rig, bits_per_second: u64) -> (Rig, Proxy, Port) {
    let (guard, line) = line().await;
    rig.settings.core.url = format!("kafka://{}", line.address());
    line.set(Conditions::slow(bits_per_second, ROUND_TRIP));
    (rig, line, guard)
}

async fn arrived(rig: &Rig) -> usize {
    let found = contents(&rig.core, &rig.readings_at_core()).await;
    found.values().map(Vec::len).sum()
}

/// The line's two round trips a transaction are a small part of its time, once it is known how long they are.
async fn is_full(rig: Rig) {
    let (rig, line, _guard) = long(rig, 64_000).await;
    random(&rig.edge, &rig.readings, 1_000, 1_000).await;
    let running = rig.start();
    eventually(LIMIT, || async {
        match line.carried().up {
            enough if enough > 150_000 => Ok(()),
            carried => Err(format!("{carried} bytes have crossed")),
        }
    })
    .await;
    println!("part of the line that is used:");
    let once = async || {
        let (before, began) = (line.carried(), Instant::now());
        tokio::time::sleep(Duration::from_secs(20)).await;
        let bytes = line.carried().since(&before).up;
        bytes as f64 / (began.elapsed().as_secs_f64() * 8_000.0)
    };
    tried(3, once, |share| *share > 0.75).await;
    line.set(Conditions::default());
    rig.readings_are_carried().await;
    running.stop().await;
}

/// What is behind a record that the edge does not take comes all the same, and in time.
async fn refused_holds_up_nothing(rig: Rig) {
    let (rig, line, _guard) = long(rig, 64_000).await;
    let mut spec = TopicSpec::new(&rig.news, 3);
    spec.max_message_bytes = 10_000;
    rig.edge.create_topic(&spec).await.unwrap();
    random(&rig.core, &rig.news, 50, 1_000).await;
    random(&rig.core, &rig.news, 1, 15_000).await;
    random(&rig.core, &rig.news, 50, 1_000).await;
    let running = rig.start();
    eventually(LIMIT, || async {
        let found: usize = contents(&rig.edge, &rig.news).await.values().map(Vec::len).sum();
        (found == 100)
            .then_some(())
            .ok_or_else(|| format!("{found} of 100"))
    })
    .await;
    rig.reports("one", |status| status.counters.get("refused") == Some(&1))
        .await;
    // The letter goes up as well; nothing else is sent twice but what a piece of a transaction takes.
    let bytes = line.carried().bytes();
    println!("{bytes} bytes have crossed for 115 kB");
    assert!(bytes < 400_000, "{bytes} bytes have crossed for 115 kB");
    let letters = contents(&rig.core, &format!("{}.dead-letter", rig.news)).await;
    assert_eq!(letters.values().flatten().count(), 1);
    running.stop().await;
}

/// Transactions grow though none can be faster than two round trips.
async fn carries_megabytes(rig: Rig) {
    let (rig, _line, _guard) = long(rig, 80_000_000).await;
    let (count, bytes) = (1_000, 16_000);
    random(&rig.edge, &rig.readings, count, bytes).await;
    let began = Instant::now();
    let running = rig.start();
    eventually(LIMIT, || async {
        match arrived(&rig).await {
            all if all == count => Ok(()),
            found => Err(format!("{found} of {count} after {:?}", began.elapsed())),
        }
    })
    .await;
    let rate = (count * bytes) as f64 / began.elapsed().as_secs_f64();
    println!("{:.1} Mbit/s, the opening included", rate * 8.0 / 1e6);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_LINE and KAFKA_FAR"]
async fn a_thin_long_line_is_full_most_of_the_time() {
    is_full(Rig::small_edge().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_EDGE_URL, KAFKA_LINE and KAFKA_FAR"]
async fn between_two_kafkas_a_thin_long_line_is_full_most_of_the_time() {
    is_full(Rig::two_kafkas().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_LINE and KAFKA_FAR"]
async fn a_refused_record_holds_up_nothing_on_a_thin_long_line() {
    refused_holds_up_nothing(Rig::small_edge().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_EDGE_URL, KAFKA_LINE and KAFKA_FAR"]
async fn between_two_kafkas_a_refused_record_holds_up_nothing_on_a_thin_long_line() {
    refused_holds_up_nothing(Rig::two_kafkas().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_LINE and KAFKA_FAR"]
async fn a_fat_long_line_carries_megabytes_in_a_transaction() {
    carries_megabytes(Rig::small_edge().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_EDGE_URL, KAFKA_LINE and KAFKA_FAR"]
async fn between_two_kafkas_a_fat_long_line_carries_megabytes_in_a_transaction() {
    carries_megabytes(Rig::two_kafkas().await).await;
}
