//! Two instances, and the operator's word.

use common::control;
use common::schemas::{Desired, ServiceState};

use crate::rig::{Rig, contents};

#[tokio::test(flavor = "multi_thread")]
async fn of_two_links_one_works_and_one_waits_until_the_first_has_gone() {
    one_works(&Rig::embedded().await).await;
}

/// Starts two links for one edge: the second carries only once the first has gone.
pub(crate) async fn one_works(rig: &Rig) {
    let first = rig.start_as("one");
    rig.runs("one").await;
    rig.send(0, 100).await;
    rig.all_is_carried().await;
    let second = rig.start_as("two");
    rig.waits("two", &["another instance"]).await;
    rig.send(100, 100).await;
    rig.all_is_carried().await;
    first.stop().await;
    rig.runs("two").await;
    rig.send(200, 100).await;
    rig.all_is_carried().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_link_carries_nothing_until_it_is_resumed() {
    let rig = Rig::embedded().await;
    let running = rig.start();
    rig.runs("one").await;
    control::ask(&rig.edge, "link", Desired::Paused, Some("test"))
        .await
        .unwrap();
    rig.reports("one", |status| status.state == ServiceState::Paused)
        .await;
    rig.send(0, 50).await;
    assert!(contents(&rig.edge, &rig.news).await.is_empty());
    control::ask(&rig.edge, "link", Desired::Running, Some("test"))
        .await
        .unwrap();
    rig.all_is_carried().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn edge_that_the_core_does_not_know_is_told_what_to_do() {
    let rig = Rig::embedded().await;
    rig.core
        .delete_topic(&format!("{}.checkpoints", rig.site))
        .await
        .unwrap();
    let running = rig.start();
    let wanted = format!("fieldline site add {}", rig.site);
    rig.waits("one", &[&wanted]).await;
    running.stop().await;
}
