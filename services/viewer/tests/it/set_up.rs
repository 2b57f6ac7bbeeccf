//! Connecting an edge: each step that can fail says so, against real listeners, and what passes is kept.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::schemas::{ServiceState, ServiceStatus, topic};
use identity::{Enrolment, Validity};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::core_stand_in::{Core, Says, plain};
use crate::rig::{LIMIT, Rig};

/// An edge that has a place for its enrolment, and that place.
async fn edge() -> (Rig, PathBuf) {
    let mut place = PathBuf::new();
    let rig = Rig::edge_with(|settings| {
        place = settings
            .token_file
            .clone()
            .unwrap()
            .with_file_name("site.enrolment");
        settings.enrolment = Some(place.clone());
    })
    .await;
    (rig, place)
}

pub(crate) async fn test(rig: &Rig, enrolment: &str) -> Value {
    tried(rig, json!({"enrolment": enrolment})).await
}

/// Sends what is to be tried; returns how each step ended, and whether all is well.
async fn tried(rig: &Rig, body: Value) -> Value {
    let mut answer = rig.call(Method::POST, "/api/set-up/test", Some(body)).await;
    let mut lines = Lines::default();
    let (mut running, mut steps) = (Vec::new(), Vec::new());
    loop {
        let line = lines.next(&mut answer).await.expect("a last line");
        if !line["passed"].is_null() {
            assert_eq!(lines.next(&mut answer).await, None);
            assert!(running.is_empty(), "{running:?} began and did not end");
            return json!({"passed": line["passed"], "steps": steps});
        }
        let name = (line["target"].clone(), line["step"].clone());
        let ended = |step: &Value| (&step["target"], &step["step"]) == (&name.0, &name.1);
        assert!(!steps.iter().any(ended), "{line} has ended already");
        running.retain(|one| *one != name);
        if line["state"] == "running" {
            assert!(!line["detail"].as_str().unwrap().is_empty(), "{line}");
            running.push(name);
        } else {
            steps.push(line);
        }
    }
}

/// An answer's JSON lines, as they come.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    async fn next(&mut self, answer: &mut Response) -> Option<Value> {
        loop {
            if let Some(end) = self.0.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.0.drain(..=end).collect();
                assert!(!String::from_utf8_lossy(&line).contains("PRIVATE"));
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let Some(more) = answer.chunk().await.unwrap() else {
                assert!(self.0.is_empty());
                return None;
            };
            self.0.extend_from_slice(&more);
        }
    }
}

/// What became of a step.
pub(crate) fn step<'a>(answer: &'a Value, target: &str, step: &str) -> &'a Value {
    let steps = answer["steps"].as_array().unwrap();
    steps
        .iter()
        .find(|one| one["target"] == target && one["step"] == step)
        .unwrap_or_else(|| panic!("no {step} of {target}: {answer}"))
}

/// That this step failed, in these words, and that none after it was tried.
pub(crate) fn fails(answer: &Value, target: &str, name: &str, words: &str) {
    let failed = step(answer, target, name);
    assert_eq!(failed["state"], "failed", "{answer:#}");
    assert!(failed["detail"].as_str().unwrap().contains(words), "{failed:#}");
    assert!(!failed["remedy"].as_str().unwrap().is_empty(), "{failed:#}");
    assert_eq!(answer["passed"], false);
    let of_target = |one: &&Value| one["target"] == target;
    let after = answer["steps"].as_array().unwrap().iter().filter(of_target);
    let after: Vec<_> = after.skip_while(|one| one["step"] != name).skip(1).collect();
    for one in after {
        assert_eq!(one["state"], "skipped", "{answer:#}");
    }
}

/// As long a handshake that nobody answers takes.
const HANDSHAKE: Duration = Duration::from_secs(5);
const NOWHERE: &str = "kafka://127.0.0.1:1";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_enrolment_of_this_site_is_told_before_anything_is_tried() {
    let (rig, _) = edge().await;
    fails(
        &test(&rig, "nonsense").await,
        "broker",
        "file",
        "no JSON (line 1, column 2)",
    );
    let core = Core::new();
    let other = core.enrolment("edge-2", NOWHERE, "https://127.0.0.1:1");
    let answer = test(&rig, &other).await;
    fails(
        &answer,
        "broker",
        "file",
        "this is the enrolment of edge-2, and this site is edge-1",
    );
    fails(&answer, "depot", "file", "edge-2");
    let own = core.enrolment("edge-1", NOWHERE, "https://127.0.0.1:1");
    let body = json!({"enrolment": own, "broker_url": "core:9092"});
    let answer = tried(&rig, body).await;
    fails(&answer, "broker", "file", "write it as kafka://host:9093");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_without_an_address_and_a_port_without_a_listener_are_told_apart() {
    let (rig, _) = edge().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap().port();
    drop(listener);
    let core = Core::new();
    let document = core.enrolment(
        "edge-1",
        &format!("kafka://127.0.0.1:{closed}"),
        "https://no-such-host.invalid:7443",
    );
    let answer = test(&rig, &document).await;
    fails(
        &answer,
        "broker",
        "port",
        &format!("nobody answers at 127.0.0.1:{closed}"),
    );
    assert_eq!(step(&answer, "broker", "name")["state"], "passed");
    fails(&answer, "depot", "name", "no-such-host.invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_wrong_certificate_has_words_of_its_own() {
    let (rig, _) = edge().await;
    let (core, other) = (Core::new(), Core::new());
    let stale = |server_days, site_days| {
        Core::valid(Validity {
            server_days,
            site_days,
            ..Validity::default()
        })
    };
    let at = |port: u16| format!("127.0.0.1:{port}");
    let told = async |core: &Core, broker: u16, depot: u16| {
        let document = core.enrolment(
            "edge-1",
            &format!("kafka://{}", at(broker)),
            &format!("https://{}", at(depot)),
        );
        test(&rig, &document).await
    };

    // Issued by another authority; and by the right one for another name.
    let foreign = other.listen("127.0.0.1", &core, Says::Kafka).await;
    let misnamed = core.listen("core.example", &core, Says::Manifest).await;
    let answer = told(&core, foreign, misnamed).await;
    fails(
        &answer,
        "broker",
        "certificate",
        "was not issued by the authority of this enrolment",
    );
    fails(
        &answer,
        "depot",
        "certificate",
        "not for 127.0.0.1 but for core.example",
    );

    // The core knows another authority; and does not speak TLS at all.
    let strange = core.listen("127.0.0.1", &other, Says::Kafka).await;
    let answer = told(&core, strange, plain(Says::Nonsense).await).await;
    fails(
        &answer,
        "broker",
        "certificate",
        "does not know the authority that issued this site's certificate",
    );
    fails(&answer, "depot", "certificate", "does not speak TLS");

    // The server's time is over; then this site's.
    let expired = stale(0, 30);
    let (broker, depot) = (
        expired.listen("127.0.0.1", &expired, Says::Kafka).await,
        expired.listen("127.0.0.2", &expired, Says::Manifest).await,
    );
    expired.outlives("certs/servers/127.0.0.2.crt").await;
    let answer = told(&expired, broker, depot).await;
    fails(
        &answer,
        "broker",
        "certificate",
        "the certificate of 127.0.0.1 has expired",
    );
    let over = stale(30, 0);
    over.enrolment("edge-1", NOWHERE, "https://127.0.0.1:1");
    over.outlives("certs/sites/edge-1.crt").await;
    let broker = over.listen("127.0.0.1", &over, Says::Kafka).await;
    fails(
        &told(&over, broker, broker).await,
        "broker",
        "certificate",
        "this site's certificate expired at 2",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_answers_and_is_not_the_core_is_told() {
    let (rig, _) = edge().await;
    let core = Core::new();
    let mail = core.listen("127.0.0.1", &core, Says::Nonsense).await;
    let document = core.enrolment(
        "edge-1",
        &format!("kafka://127.0.0.1:{mail}"),
        &format!("https://127.0.0.1:{mail}"),
    );
    let answer = test(&rig, &document).await;
    fails(&answer, "broker", "certificate", "is no Kafka");
    fails(&answer, "depot", "rights", "does not speak HTTP");
    assert_eq!(step(&answer, "depot", "certificate")["state"], "passed");

    let secret = core.listen("localhost", &core, Says::Kafka).await;
    let refusing = core.listen("::1", &core, Says::Manifest).await;
    let document = core.enrolment(
        "edge-1",
        &format!("kafka+plain://127.0.0.1:{secret}"),
        &format!("https://127.0.0.1:{refusing}"),
    );
    fails(
        &test(&rig, &document).await,
        "broker",
        "certificate",
        "speaks TLS at this port",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_is_told_while_it_is_tried_and_who_leaves_ends_the_test() {
    let (rig, _) = edge().await;
    let core = Core::new();
    // Its connections are taken and never answered: a handshake waits as long as it may.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = silent.local_addr().unwrap();
    let document = core.enrolment("edge-1", &format!("kafka://{at}"), &format!("https://{at}"));
    let body = json!({"enrolment": document});
    // A machine that has too much to do may need longer for this than the handshakes wait, which says nothing.
    for _ in 0..5 {
        if ends_when_its_caller_leaves(&rig, &body).await {
            return;
        }
    }
    panic!("it goes on to its end");
}

/// Whether a test had ended, after its caller left, before it would have ended by itself.
async fn ends_when_its_caller_leaves(rig: &Rig, body: &Value) -> bool {
    let begun = Instant::now();
    let over = || begun.elapsed() >= HANDSHAKE;
    let mut answer = starts(rig, body).await;
    let mut lines = Lines::default();
    let mut waiting = 0;
    while waiting < 2 {
        let line = lines.next(&mut answer).await.unwrap();
        waiting += usize::from(line["step"] == "certificate" && line["state"] == "running");
        if over() {
            return false;
        }
        assert_ne!(line["state"], "failed", "{line}");
    }
    let (status, problem) = rig.post("/api/set-up/test", body.clone()).await;
    if over() {
        return false;
    }
    assert_eq!(
        (status, &problem["detail"]),
        (409, &json!("a set-up is being tested already"))
    );

    drop(answer);
    drop(starts(rig, &json!({"enrolment": "{}"})).await);
    !over()
}

/// Waits until no other set-up is tested, and starts one.
async fn starts(rig: &Rig, body: &Value) -> Response {
    testkit::eventually(LIMIT, || async {
        let answer = rig
            .call(Method::POST, "/api/set-up/test", Some(body.clone()))
            .await;
        match answer.status().as_u16() {
            200 => Ok(answer),
            status => Err(status.to_string()),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_rights_and_missing_topics_are_named() {
    let (rig, _) = edge().await;
    let core = Core::new();
    let broker = core
        .broker("edge-1", &["edge-1.ASSET_REQUEST", "ASSET_PREVIEW"])
        .await;
    let depot = core.listen("127.0.0.1", &core, Says::Refusal).await;
    let document = core.enrolment("edge-1", &broker, &format!("https://127.0.0.1:{depot}"));
    let answer = test(&rig, &document).await;
    fails(
        &answer,
        "broker",
        "topics",
        "the core has no ASSET_PREVIEW, edge-1.ASSET_REQUEST",
    );
    let rights = step(&answer, "broker", "rights");
    assert_eq!(rights["state"], "passed");
    assert!(
        rights["detail"]
            .as_str()
            .unwrap()
            .contains("write edge-1.ASSET_RECEIPT"),
        "{rights}"
    );
    fails(
        &answer,
        "depot",
        "rights",
        "the depot refuses edge-1: edge-1 is not enrolled here",
    );
    let remedy = step(&answer, "depot", "rights")["remedy"].as_str().unwrap();
    assert!(remedy.contains("fieldline site add edge-1"), "{remedy}");

    let gone = core.enrolment(
        "edge-1",
        "sqlite:///nowhere/core.db",
        &format!("https://127.0.0.1:{depot}"),
    );
    fails(
        &test(&rig, &gone).await,
        "broker",
        "port",
        "there is no file /nowhere/core.db",
    );
    assert!(!std::path::Path::new("/nowhere").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enrolment_that_passes_is_kept_and_what_the_site_lacks_is_made() {
    let (rig, place) = edge().await;
    let core = Core::new();
    let (broker, depot) = (core.broker("edge-1", &[]).await, core.depot().await);
    let document = core.enrolment("edge-1", &broker, "https://core.example:7443");
    let before = rig.get("/api/set-up").await;
    assert_eq!(
        (before["connected"].clone(), before["place"].clone()),
        (json!(false), json!(place))
    );
    rig.broker.delete_topic(topic::ASSET_RECEIPT).await.unwrap();

    let body = json!({"enrolment": document, "depot_url": depot});
    let tested = tried(&rig, body.clone()).await;
    assert_eq!(tested["passed"], true, "{tested:#}");
    assert!(!place.exists());
    let (status, connected) = rig.post("/api/set-up/connect", body).await;
    assert_eq!(
        (status, &connected["topics"]),
        (200, &json!([topic::ASSET_RECEIPT])),
        "{connected:#}"
    );
    assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o600);
    let kept = Enrolment::read(&place).unwrap().unwrap();
    assert_eq!(kept.depot_url(), depot);
    let after = rig.get("/api/set-up").await;
    assert_eq!(after["connected"], true, "{after}");
    assert_eq!(after["core"], json!({"address": broker, "depot": depot}));
    assert!(after["since"].is_i64() && after["problem"].is_null(), "{after}");

    // Nothing that was written to see whether it may be written is there for anybody.
    let url = core.broker("edge-1", &[]).await;
    let there = common::broker::Broker::open(
        &common::broker::Settings::url(url),
        "look",
        &prometheus::Registry::new(),
    )
    .await
    .unwrap();
    let mut records = 0;
    there
        .read_to_end("edge-1.site-status", |_| records += 1)
        .await
        .unwrap();
    assert_eq!(records, 0);

    let (status, refused) = rig.post("/api/set-up/connect", json!({"enrolment": "{}"})).await;
    assert_eq!(status, 409, "{refused}");
    assert!(
        refused["detail"]
            .as_str()
            .unwrap()
            .starts_with("file of the broker:"),
        "{refused}"
    );
    assert_eq!(Enrolment::read(&place).unwrap(), Some(kept));
    let audit = rig.get("/api/audit?action=set_up.connect").await;
    let outcomes: Vec<_> = audit["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["outcome"].clone())
        .collect();
    assert_eq!(outcomes.len(), 2, "{audit}");
    assert!(
        outcomes[0].as_str().unwrap().starts_with("refused: file") && outcomes[1] == "done",
        "{audit}"
    );
    assert!(!audit.to_string().contains("PRIVATE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_names_its_core_itself_needs_no_enrolment_and_keeps_none() {
    let rig = Rig::edge().await;
    let core = Core::new();
    let document = core.enrolment("edge-1", &core.broker("edge-1", &[]).await, &core.depot().await);
    let (status, problem) = rig
        .post("/api/set-up/connect", json!({"enrolment": document}))
        .await;
    assert_eq!(status, 409);
    assert!(
        problem["hint"].as_str().unwrap().contains("[common]"),
        "{problem}"
    );
    assert_eq!(rig.get("/api/set-up").await["connected"], false);
    let status = ServiceStatus {
        service: "link".into(),
        instance: "a".into(),
        state: ServiceState::Running,
        detail: None,
        last_error: None,
        last_error_at: None,
        started_at: 1,
        reported_at: common::chassis::now_ms(),
        version: "1".into(),
        counters: Default::default(),
        gauges: [("last_contact_at".to_owned(), 5.0)].into(),
    };
    rig.send(topic::SERVICE_STATUS, "link/a", &status).await;
    let shown = rig.shows("/api/set-up", |view| view["connected"] == true).await;
    assert!(shown["place"].is_null() && shown["core"].is_null(), "{shown}");
    let (status, _) = Rig::core().await.answer(Method::GET, "/api/set-up", None).await;
    assert_eq!(status, 404);
}
