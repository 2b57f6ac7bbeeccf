//! A link behind a cap: what comes in goes before what waits.

use std::time::Duration;

use e2e::live_first::{Plan, run};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn what_comes_in_passes_a_backlog_behind_a_cap() {
    passes(false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn what_comes_in_passes_a_small_edges_backlog_behind_a_cap() {
    passes(true).await;
}

async fn passes(embedded: bool) {
    let plan = Plan {
        records: 50_000,
        cap: 32_000,
        time: Duration::from_secs(30),
        rate: 10,
        pressed: Duration::ZERO,
        encrypted: true,
        embedded,
    };
    let directory = e2e::kept_on_failure().unwrap();
    let outcome = run(&plan, directory.path(), None).await.unwrap();
    let (oldest, above, used) = (
        outcome.percentile(99),
        outcome.above(plan.cap),
        outcome.used(plan.cap),
    );
    let begin = outcome.begin_percentile(99);
    println!(
        "first after {:.2} s, p99 then {begin:.2} s; p99 {oldest:.2} s, {used:.0} % of the cap, at most {above:.1} % above it, backlog {}",
        outcome.first, outcome.backlog
    );
    assert_eq!(outcome.missing, 0);
    assert!(
        oldest.max(begin) < 3.0,
        "{oldest:.1} s, at the beginning {begin:.1} s"
    );
    assert!(outcome.share > 0.05, "{}", outcome.share);
    // What other work of the machine keeps from crossing is not made up for later; more than the cap never crosses.
    assert!(above < 5.0, "{:?}", outcome.rates);
    assert!(used > 85.0, "{:?}", outcome.rates);
}
