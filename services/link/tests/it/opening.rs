//! What it costs on the line to begin again: not what was carried before.

use common::broker::Outgoing;
use common::schemas::{self, Checkpoint, OffsetRange, at_core, topic};
use testkit::proxy::{Conditions, Cut};

use crate::kafka::{line, told};
use crate::rig::Rig;

/// Checkpoints of transactions long ago, that no compaction has taken yet.
const OLD: usize = 20_000;
/// What the handshakes of all carriers and their questions take.
const LITTLE: u64 = 150_000;

fn old(topic: &str, number: usize) -> Outgoing {
    let offset = i64::try_from(number).unwrap();
    let checkpoint = Checkpoint {
        route: "old".into(),
        source_topic: "elsewhere".into(),
        destination_topic: "edge.elsewhere".into(),
        partition: 0,
        next_offset: offset,
        source_epoch: format!("{:032x}", rand::random::<u128>()),
        ranges: vec![OffsetRange {
            source: 0,
            destination: 0,
            count: offset,
        }],
        carried_at: offset,
        ..Checkpoint::default()
    };
    Outgoing::new(topic, "old/elsewhere/0", schemas::encode(&checkpoint).unwrap())
}

async fn nothing_is_read_again(mut rig: Rig) {
    let (_guard, line) = line().await;
    rig.settings.core.url = format!("kafka://{}", line.address());
    line.set(Conditions::default());
    let checkpoints = at_core(&rig.site, topic::CHECKPOINTS);
    let all = (0..OLD).map(|number| old(&checkpoints, number)).collect();
    rig.core.producer().unwrap().send_all(all).await.unwrap();
    let running = rig.start();
    rig.send(0, 50).await;
    rig.readings_are_carried().await;
    let first = line.carried().down;
    assert!(first > 1_000_000, "{first} bytes: they are to be read once");
    let mut running = Some(running);
    for (round, what) in ["cut", "stop", "cut", "crash", "crash"].into_iter().enumerate() {
        let before = line.carried();
        match (what, running.take()) {
            ("stop", Some(link)) => link.stop().await,
            ("crash", Some(link)) => link.tear().await,
            (_, link) => {
                line.cut(Cut::Reset);
                running = link;
            }
        }
        let link = running.take().unwrap_or_else(|| rig.start());
        rig.send((round + 1) * 50, 50).await;
        rig.readings_are_carried().await;
        let again = line.carried().since(&before).down;
        println!("{first} bytes down at first, {again} after a {what}");
        assert!(again < LITTLE, "{again} bytes down after a {what}");
        running = Some(link);
    }
    // Somebody else has been at work, as far as anybody can tell: all is read anew.
    running.take().unwrap().stop().await;
    let marks = link::transactional_id(&rig.site, link::Direction::Up, None);
    rig.core.transactions(&marks).await.unwrap();
    let before = line.carried();
    let running = rig.start();
    rig.send(500, 50).await;
    rig.readings_are_carried().await;
    let again = line.carried().since(&before).down;
    assert!(again > 1_000_000, "{again} bytes down");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_LINE and KAFKA_FAR"]
async fn after_a_cut_and_a_restart_nothing_is_read_again_of_the_checkpoints_that_are_known() {
    nothing_is_read_again(Rig::small_edge().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_EDGE_2_URL, KAFKA_LINE and KAFKA_FAR"]
async fn between_two_kafkas_nothing_is_read_again_of_the_checkpoints_that_are_known() {
    let (rig, _told) = told().await;
    nothing_is_read_again(rig).await;
}
