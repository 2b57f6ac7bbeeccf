//! What the edge sets for its link while it runs.

use common::control;
use common::schemas::ServiceState;

use crate::rig::{Rig, contents};

async fn set(rig: &Rig, key: &str, value: Option<&str>) {
    control::set(&rig.edge, "link", key, value.map(Into::into), Some("test"))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_route_carries_nothing_while_others_go_on_and_stays_paused_over_a_restart() {
    let rig = Rig::embedded().await;
    let running = rig.start();
    rig.runs("one").await;
    set(&rig, "route/news", Some("\"paused\"")).await;
    rig.reports("one", |status| {
        status.gauges.get("route.news.paused") == Some(&1.0)
    })
    .await;
    running.stop().await;
    let running = rig.start();
    rig.send(0, 50).await;
    rig.readings_are_carried().await;
    assert!(contents(&rig.edge, &rig.news).await.is_empty());
    set(&rig, "route/news", None).await;
    rig.all_is_carried().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_crosses_outside_the_windows_and_it_is_said_why() {
    let mut rig = Rig::embedded().await;
    // A minute that was, on each day of the week.
    let now = common::chassis::now_ms() / 60_000 % 1440;
    let at = |minute: i64| format!("{:02}:{:02}", minute / 60, minute % 60);
    let past = (now + 1440 - 30) % 1440;
    let window = format!("{}-{}", at(past), at((past + 1) % 1440));
    rig.settings.budget.windows = vec![window.parse().unwrap()];
    let running = rig.start();
    let waits = rig
        .reports("one", |status| status.state == ServiceState::Waiting)
        .await;
    assert!(
        waits
            .detail
            .unwrap()
            .contains("outside the link's time windows, until")
    );
    rig.send(0, 50).await;
    assert!(contents(&rig.edge, &rig.news).await.is_empty());
    set(&rig, "budget/windows", Some("[]")).await;
    rig.all_is_carried().await;
    set(&rig, "budget/windows", None).await;
    rig.reports("one", |status| status.state == ServiceState::Waiting)
        .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_set_is_told_and_the_link_goes_on() {
    let rig = Rig::embedded().await;
    let running = rig.start();
    rig.runs("one").await;
    set(&rig, "budget/cap", Some("\"fast\"")).await;
    let told = rig.reports("one", |status| status.last_error.is_some()).await;
    assert!(told.last_error.unwrap().contains("cap"));
    rig.send(0, 50).await;
    rig.all_is_carried().await;
    running.stop().await;
}
