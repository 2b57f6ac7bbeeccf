//! A service's last log lines reach its site: when there are new ones, and never because they were passed on.

use broker::Broker;
use chassis::{Host, HostSettings, Stop};
use control::Control;
use schemas::{ServiceLog, topic};
use telemetry::capture::Capture;
use testkit::eventually;

use crate::{LIMIT, ready};

async fn logs(broker: &Broker) -> Vec<ServiceLog> {
    let mut logs = Vec::new();
    let visit = |record: broker::Record| {
        assert_eq!(record.key.as_deref(), Some(&b"feed/one"[..]));
        logs.push(schemas::decode(&record.value.unwrap()).unwrap());
    };
    broker.read_to_end(topic::SERVICE_LOG, visit).await.unwrap();
    logs
}

#[tokio::test]
async fn new_lines_are_passed_on_and_passing_them_on_is_no_news() {
    let capture = Capture::start("trace").unwrap();
    let (_dir, broker) = ready().await;
    let settings = HostSettings {
        site: "core".into(),
        instance: Some("one".into()),
        ..HostSettings::default()
    };
    let host = Host::new("feed", settings, capture.telemetry().clone(), Stop::new());
    let _control = Control::attach(&host, &broker).await.unwrap();
    host.span()
        .in_scope(|| tracing::warn!(asset_id = "a1", bytes = 7, "slow"));
    let log = eventually(LIMIT, || async {
        let last = logs(&broker).await.pop();
        last.filter(|log| log.lines.iter().any(|line| line.message == "slow"))
            .ok_or("not passed on yet")
    })
    .await;
    let line = log.lines.iter().find(|line| line.message == "slow").unwrap();
    assert_eq!(
        (
            line.level.as_str(),
            line.fields["asset_id"].as_str(),
            line.fields["bytes"].as_str()
        ),
        ("warn", "a1", "7")
    );
    assert!(log.as_of >= line.at && line.target.starts_with("it::logs"));

    // Reports go on every five seconds, at level trace, and say nothing that is passed on.
    let before = logs(&broker).await.len();
    tokio::time::sleep(std::time::Duration::from_secs(7)).await;
    assert_eq!(logs(&broker).await.len(), before);

    host.span().in_scope(|| tracing::info!("last words"));
    host.stop().cancel();
}
