//! An edge: assets that appear, requests, content, services.

use common::chassis::Host;
use common::control::Control;
use common::schemas::{AssetChange, AssetId, SiteStatus, decode, topic};
use common::table::{Select, Value, Write};
use serde_json::json;
use testkit::{asset_id, eventually};

use crate::rig::{LIMIT, Rig, nothing};

pub(crate) async fn write(rig: &Rig, id: &AssetId, row: Write) {
    rig.table
        .upsert(row.set("bucket", id.bucket()).set("asset_id", id.as_str()))
        .await
        .unwrap();
    let change = AssetChange {
        asset_id: id.clone(),
        writer: "listener".into(),
        changed_at: 1,
    };
    rig.send(topic::ASSET_CHANGES, id.as_str(), &change).await;
}

pub(crate) async fn broadcast(rig: &Rig, number: u32, content: &[u8]) -> AssetId {
    let record = testkit::broadcast(number, content);
    let row = Write::to("assets")
        .set("title", &*record.title)
        .set("description", &*record.description)
        .set("hash", record.hash.as_str())
        .set("size", record.size)
        .set("media_type", &*record.media_type)
        .set("file_name", &*record.file_name)
        .set("broadcast_at", Value::timestamp(record.broadcast_at));
    write(rig, &record.asset_id, row).await;
    record.asset_id
}

async fn pending(rig: &Rig) -> Vec<(String, i32, String)> {
    let rows = rig
        .table
        .select(Select::from("requests").partition("queue", "pending"))
        .await
        .unwrap();
    let read = |row: &common::table::Row| {
        (
            row.text("asset_id").unwrap().to_owned(),
            row.int("attempt").unwrap(),
            row.text("action").unwrap().to_owned(),
        )
    };
    rows.iter().map(read).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn assets_that_were_there_and_those_that_come_are_listed_newest_first() {
    let rig = Rig::edge().await;
    for number in 0..40 {
        broadcast(&rig, number, b"x").await;
    }
    let page = rig
        .shows("/api/assets?limit=15", |page| page["total"] == 40)
        .await;
    assert_eq!(page["by_state"]["available"], 40);
    assert_eq!(page["assets"][0]["asset_id"], asset_id(39).as_str());
    assert_eq!(page["assets"].as_array().unwrap().len(), 15);
    let next = page["next"].as_str().unwrap();
    let rest = rig.get(&format!("/api/assets?limit=1000&after={next}")).await;
    assert_eq!(rest["assets"].as_array().unwrap().len(), 25);
    assert!(rest["next"].is_null());
    let found = rig.get("/api/assets?q=entry%2017").await;
    assert_eq!(found["assets"][0]["asset_id"], asset_id(17).as_str());
    assert_eq!(rig.get("/api/assets?state=ready").await["total"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn request_is_one_attempt_until_it_is_refused_or_taken_back() {
    let rig = Rig::edge().await;
    let id = broadcast(&rig, 1, b"x").await;
    let path = format!("/api/assets/{id}");
    let (status, asked) = rig.post(&format!("{path}/request"), json!({"by": "kim"})).await;
    assert_eq!(
        (status, &asked["state"], &asked["attempt"]),
        (200, &json!("requesting"), &json!(1))
    );
    assert_eq!(asked["request_id"], format!("edge-1.{id}.1"));
    assert_eq!(
        rig.post(&format!("{path}/request"), nothing()).await.1["attempt"],
        1
    );
    assert_eq!(pending(&rig).await, [(id.to_string(), 1, "request".to_owned())]);
    assert_eq!(rig.get("/api/assets?state=requesting").await["total"], 1);
    let (status, asked) = rig.post(&format!("{path}/cancel"), nothing()).await;
    assert_eq!((status, &asked["state"]), (200, &json!("cancelled")));
    let asked = rig.post(&format!("{path}/request"), nothing()).await.1;
    assert_eq!(
        (&asked["state"], &asked["attempt"]),
        (&json!("requesting"), &json!(2))
    );
    assert_eq!(rig.get(&path).await["state"], "requesting");
    let refused = Write::to("assets")
        .set("response", "refused")
        .set("response_attempt", 2)
        .set("response_reason", "too large");
    write(&rig, &id, refused).await;
    let shown = rig.shows(&path, |asset| asset["state"] == "refused").await;
    assert_eq!(shown["reason"], "too large");
    assert_eq!(
        rig.post(&format!("{path}/request"), json!({"by": "kim"})).await.1["attempt"],
        3
    );
    assert_eq!(rig.get(&path).await["requested_by"], "kim");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_for_is_refused_with_the_reason() {
    let rig = Rig::edge().await;
    let id = broadcast(&rig, 1, b"x").await;
    write(
        &rig,
        &id,
        Write::to("assets")
            .set("withdrawn_at", Value::timestamp(5))
            .set("withdrawn_reason", "wrong picture"),
    )
    .await;
    let (status, problem) = rig.post(&format!("/api/assets/{id}/request"), nothing()).await;
    assert_eq!(status, 409);
    assert!(problem["detail"].as_str().unwrap().contains("withdrawn"));
    let other = broadcast(&rig, 2, b"x").await;
    assert_eq!(
        rig.post(&format!("/api/assets/{other}/cancel"), nothing())
            .await
            .0,
        409
    );
    assert_eq!(
        rig.post(&format!("/api/assets/{}/request", asset_id(99)), nothing())
            .await
            .0,
        404
    );
    assert_eq!(
        rig.post(&format!("/api/assets/{id}/withdraw"), json!({"reason": "x"}))
            .await
            .0,
        404
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn content_is_served_once_it_is_here_in_ranges_and_as_nothing_to_run() {
    let rig = Rig::edge().await;
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    let id = broadcast(&rig, 1, &bytes).await;
    let path = format!("/api/assets/{id}/content");
    assert_eq!(rig.answer(reqwest::Method::GET, &path, None).await.0, 409);
    let mut writer = rig.volume.writer().await.unwrap();
    writer.write(&bytes).await.unwrap();
    let stored = writer.finish().await.unwrap();
    let mirrored = Write::to("assets")
        .set("mirrored_at", Value::timestamp(9))
        .set("mirrored_hash", stored.hash.as_str());
    write(&rig, &id, mirrored).await;
    let response = rig.call(reqwest::Method::GET, &path, None).await;
    let headers = response.headers().clone();
    assert_eq!(headers["content-type"], "image/png");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert!(
        headers["content-security-policy"]
            .to_str()
            .unwrap()
            .contains("sandbox")
    );
    assert!(
        headers["content-disposition"]
            .to_str()
            .unwrap()
            .starts_with("inline")
    );
    assert!(response.bytes().await.unwrap() == bytes);
    let part = rig
        .http
        .get(format!("{}{path}", rig.url))
        .header("range", "bytes=100-199")
        .send()
        .await
        .unwrap();
    assert_eq!(part.status().as_u16(), 206);
    assert!(part.bytes().await.unwrap() == bytes[100..200]);
    write(&rig, &id, Write::to("assets").set("media_type", "image/svg+xml")).await;
    let response = rig.call(reqwest::Method::GET, &path, None).await;
    assert_eq!(response.headers()["content-type"], "application/octet-stream");
    assert!(
        response.headers()["content-disposition"]
            .to_str()
            .unwrap()
            .starts_with("attachment")
    );
    assert_eq!(
        rig.answer(reqwest::Method::GET, &format!("/api/assets/{id}/preview"), None)
            .await
            .0,
        404
    );
    let preview = Write::to("assets")
        .set("preview", b"RIFF".to_vec())
        .set("preview_media_type", "image/webp");
    write(&rig, &id, preview).await;
    let response = rig
        .call(reqwest::Method::GET, &format!("/api/assets/{id}/preview"), None)
        .await;
    assert_eq!(response.headers()["content-type"], "image/webp");
    assert_eq!(response.bytes().await.unwrap(), "RIFF");
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_listed_and_told_what_to_do() {
    let rig = Rig::edge().await;
    let host = Host::detached("link", "edge-1");
    let control = Control::attach(&host, &rig.broker).await.unwrap();
    host.ready();
    control.gauge("lag_records_up", 7.0);
    rig.shows("/api/link", |link| link["instances"][0]["state"] == "running")
        .await;
    let (status, told) = rig.post("/api/link/pause", json!({"by": "kim"})).await;
    assert_eq!((status, &told["desired"]), (200, &json!("paused")));
    let mut told = control.told();
    told.wait_for(|told| told.desired == common::schemas::Desired::Paused)
        .await
        .unwrap();
    rig.shows("/api/services", |all| {
        let mut services = all["services"].as_array().unwrap().iter();
        services.any(|service| service["service"] == "link" && service["desired"] == "paused")
    })
    .await;
    let wanted = json!({"budget": {"cap": "32KB"}, "routes": {"broadcasts": "paused"}, "by": "kim"});
    assert_eq!(rig.post("/api/link", wanted).await.0, 200);
    let mut set = control.settings();
    set.wait_for(|set| set.len() == 2 && set["budget/cap"].value == "\"32KB\"")
        .await
        .unwrap();
    control.gauge("cap", 32_000.0);
    rig.shows("/api/link", |link| {
        link["limits"]["set"]["route/broadcasts"]["value"] == "paused"
            && link["limits"]["set"]["budget/cap"]["by"] == "kim"
            && link["limits"]["cap"] == 32_000.0
    })
    .await;
    let wrong = json!({"budget": {"cap": "fast"}});
    assert_eq!(rig.post("/api/link", wrong).await.0, 400);
    assert_eq!(rig.post("/api/services/viewer/stop", nothing()).await.0, 409);
    host.stop().cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn mirror_estimates_what_is_ready_and_the_core_hears_of_the_site() {
    let rig = Rig::edge().await;
    let id = broadcast(&rig, 1, b"12345").await;
    let ready = Write::to("assets")
        .set("attempt", 1)
        .set("response", "ready")
        .set("response_attempt", 1);
    write(&rig, &id, ready).await;
    let estimate = rig
        .shows("/api/mirror/estimate", |estimate| estimate["assets"] == 1)
        .await;
    assert_eq!(
        (&estimate["bytes"], &estimate["seconds"]),
        (&json!(5), &json!(null))
    );
    let status = eventually(LIMIT, || async {
        let mut newest: Option<SiteStatus> = None;
        let read =
            |record: common::broker::Record| newest = record.value.map(|value| decode(&value).unwrap());
        rig.broker.read_to_end(topic::SITE_STATUS, read).await.unwrap();
        newest
            .filter(|status| status.assets == 1 && status.pending == 1)
            .ok_or("not told yet")
    })
    .await;
    assert_eq!(status.site, rig.site);
    assert_eq!(status.lag, None, "no link has said so yet");
    assert!(
        status
            .problems
            .iter()
            .any(|problem| problem.contains("mirror has never reported"))
    );
    let whole = rig.get("/api/status").await;
    assert_eq!(
        (&whole["assets"]["total"], &whole["dead_letters"]),
        (&json!(1), &json!(0))
    );
    assert!(
        whole["problems"]
            .as_array()
            .unwrap()
            .iter()
            .all(|problem| problem["remedy"].is_string())
    );
}
