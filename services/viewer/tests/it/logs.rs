//! The last log lines of a service are shown to every reader, and new ones are told.

use common::chassis::now_ms;
use common::schemas::{LogLine, ServiceLog, topic};
use reqwest::Method;
use serde_json::json;

use crate::events::Page;
use crate::rig::Rig;

fn log(instance: &str, as_of: i64, lines: i64) -> ServiceLog {
    let line = |number: i64| LogLine {
        at: as_of - lines + number,
        level: "warn".into(),
        target: "feed::service".into(),
        message: format!("line {number}"),
        fields: [("asset_id".to_owned(), "<b>a1</b>".to_owned())].into(),
    };
    ServiceLog {
        service: "feed".into(),
        instance: instance.into(),
        as_of,
        lines: (0..lines).map(line).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn last_lines_of_each_instance_are_shown_and_new_ones_are_told() {
    let rig = Rig::core().await;
    let mut page = Page::open(&rig, "?topics=logs", None).await;
    let now = now_ms();
    rig.send(topic::SERVICE_LOG, "feed/one", &log("one", now + 1, 3))
        .await;
    rig.send(topic::SERVICE_LOG, "feed/two", &log("two", now + 9, 5))
        .await;
    let told = page.until("logs", |told| told["instance"] == "two").await;
    assert_eq!(
        told,
        json!({"service": "feed", "instance": "two", "as_of": now + 9})
    );
    let shown = rig.get("/api/services/feed/logs?limit=4").await;
    let instances = shown["instances"].as_array().unwrap();
    assert_eq!((&shown["service"], instances.len()), (&json!("feed"), 2));
    assert_eq!(
        (&instances[0]["instance"], &instances[0]["as_of"]),
        (&json!("two"), &json!(now + 9))
    );
    let lines = instances[0]["lines"].as_array().unwrap();
    assert_eq!((lines.len(), &lines[0]["message"]), (4, &json!("line 1")));
    assert_eq!(lines[3]["fields"], json!({"asset_id": "<b>a1</b>"}));
    assert_eq!(instances[1]["lines"].as_array().unwrap().len(), 3);

    // The newest word counts, and what is no log of its key does not.
    rig.send(topic::SERVICE_LOG, "feed/one", &log("one", now + 20, 1))
        .await;
    rig.send(topic::SERVICE_LOG, "feed/two", &log("one", now + 30, 1))
        .await;
    let shown = rig
        .shows("/api/services/feed/logs", |shown| {
            shown["instances"][0]["instance"] == "one"
        })
        .await;
    assert_eq!(shown["instances"][0]["lines"].as_array().unwrap().len(), 1);
    assert_eq!(shown["instances"][1]["lines"].as_array().unwrap().len(), 5);

    // The viewer's own lines come the same way, from the service itself.
    for (path, status) in [
        ("/api/services/viewer/logs", 200),
        ("/api/services/nobody/logs", 404),
        ("/api/services/feed/logs?limit=x", 400),
    ] {
        rig.shows("/api/services", |shown| {
            shown["services"].to_string().contains("viewer")
        })
        .await;
        assert_eq!(rig.answer(Method::GET, path, None).await.0, status, "{path}");
    }
}
