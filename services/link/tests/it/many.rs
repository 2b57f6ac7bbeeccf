//! Many edges and one core: one that hangs holds up nobody.

use testkit::proxy::Flow;

use crate::kafka::line;
use crate::rig::Rig;

async fn one_that_hangs_holds_up_nobody(edge: impl AsyncFn() -> Rig) {
    let (_guard, line) = line().await;
    let mut hangs = edge().await;
    hangs.settings.core.url = format!("kafka://{}", line.address());
    let others = [edge().await, edge().await, edge().await];
    let running: Vec<_> = others.iter().chain([&hangs]).map(Rig::start).collect();
    for rig in others.iter().chain([&hangs]) {
        rig.send(0, 60).await;
    }
    for rig in others.iter().chain([&hangs]) {
        rig.all_is_carried().await;
    }
    // In the middle of what it carries, with a transaction open, nothing moves any more and nothing is told.
    let before = line.carried().bytes();
    hangs.send(60, 20_000).await;
    testkit::eventually(crate::rig::LIMIT, || async {
        if line.carried().bytes() > before + 100_000 {
            Ok(())
        } else {
            Err("nothing on the line")
        }
    })
    .await;
    line.change(|now| now.flow = Flow::Stalled);
    for part in 1..4 {
        for rig in &others {
            rig.send(part * 60, 60).await;
        }
        for rig in &others {
            rig.all_is_carried().await;
        }
    }
    line.change(|now| now.flow = Flow::Open);
    hangs.all_is_carried().await;
    for running in running {
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_LINE and KAFKA_FAR"]
async fn edge_whose_line_hangs_holds_up_no_other_and_goes_on_when_it_comes_back() {
    one_that_hangs_holds_up_nobody(Rig::small_edge).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_EDGE_URL, KAFKA_LINE and KAFKA_FAR"]
async fn edge_on_kafka_whose_line_hangs_holds_up_no_other() {
    one_that_hangs_holds_up_nobody(Rig::two_kafkas).await;
}
