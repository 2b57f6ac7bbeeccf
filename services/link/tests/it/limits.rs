//! What the edge sets for its link while it runs.

use std::time::Duration;

use common::broker::{Cleanup, Outgoing, TopicSpec};
use common::budget::Class;
use common::control;
use common::schemas::{Desired, ServiceState, ServiceStatus};
use link::{Direction, Rename, Route};
use testkit::eventually;
use testkit::proxy::Proxy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::at_once::{random, requests_pass};
use crate::kafka::{encrypted_line, line, mutual_tls, told};
use crate::rig::{LIMIT, Rig, contents};

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

async fn nothing_crosses_outside_the_windows(mut rig: Rig) {
    // A minute that was, on each day of the week.
    let now = common::chassis::now_ms() / 60_000 % 1440;
    let at = |minute: i64| format!("{:02}:{:02}", minute / 60, minute % 60);
    let past = (now + 1440 - 30) % 1440;
    let window = format!("{}-{}", at(past), at((past + 1) % 1440));
    rig.settings.budget.windows = vec![window.parse().unwrap()];
    let running = rig.start();
    let outside = ["outside the link's time windows, until"];
    rig.waits("one", &outside).await;
    rig.send(0, 50).await;
    assert!(contents(&rig.edge, &rig.news).await.is_empty());
    set(&rig, "budget/windows", Some("[]")).await;
    rig.all_is_carried().await;
    set(&rig, "budget/windows", None).await;
    rig.waits("one", &outside).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_crosses_outside_the_windows_and_it_is_said_why() {
    nothing_crosses_outside_the_windows(Rig::embedded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn nothing_crosses_from_an_embedded_edge_to_kafka_outside_the_windows() {
    nothing_crosses_outside_the_windows(Rig::small_edge().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_2_URL"]
async fn nothing_crosses_between_two_kafkas_outside_the_windows() {
    let (rig, _told) = told().await;
    nothing_crosses_outside_the_windows(rig).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_as_a_whole_it_lets_no_files_through_its_door_either() {
    let depot = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let far = depot.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = depot.accept().await {
            let (mut from, mut to) = stream.split();
            drop(tokio::io::copy(&mut from, &mut to).await);
        }
    });
    let mut rig = Rig::embedded().await;
    let door = ([127, 0, 0, 1], testkit::free_port()).into();
    rig.settings.door.listen = Some(door);
    rig.settings.door.allow = vec![far.to_string()];
    let through = async || {
        let mut stream = TcpStream::connect(door).await.unwrap();
        let wish = format!("CONNECT {far} HTTP/1.1\r\n\r\n");
        stream.write_all(wish.as_bytes()).await.unwrap();
        let mut head = [0; 19];
        stream.read_exact(&mut head).await.unwrap();
        if head.starts_with(b"HTTP/1.1 200 ") {
            return Ok(stream);
        }
        let mut why = String::new();
        stream.read_to_string(&mut why).await.unwrap();
        Err(why)
    };
    let ask = async |desired| {
        control::ask(&rig.edge, "link", desired, Some("test"))
            .await
            .unwrap();
    };
    let running = rig.start();
    rig.runs("one").await;
    let mut open = through().await.unwrap();
    open.write_all(b"x").await.unwrap();
    assert_eq!(open.read_u8().await.unwrap(), b'x');
    ask(Desired::Paused).await;
    rig.reports("one", |status| status.state == ServiceState::Paused)
        .await;
    let why = through().await.unwrap_err();
    assert!(why.contains("the link is paused"), "{why}");
    open.write_all(b"y").await.unwrap();
    let crossed = tokio::time::timeout(Duration::from_secs(1), open.read_u8()).await;
    assert!(crossed.is_err(), "{crossed:?}");
    ask(Desired::Running).await;
    assert_eq!(open.read_u8().await.unwrap(), b'y');
    through().await.unwrap();
    running.stop().await;
    // A link that finds itself paused does not begin with its door open.
    ask(Desired::Paused).await;
    let running = rig.start();
    rig.reports("one", |status| status.state == ServiceState::Paused)
        .await;
    through().await.unwrap_err();
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

fn gauge(status: &ServiceStatus, name: &str) -> f64 {
    status.gauges.get(name).copied().unwrap_or_default()
}

/// Waits until it is told that a class is held for a reason, and tells how many bytes of it have crossed.
async fn held(rig: &Rig, class: Class, code: f64) -> f64 {
    let name = format!("class.{class}.held");
    let status = rig
        .reports("one", |status| status.gauges.get(&name) == Some(&code))
        .await;
    gauge(&status, &format!("class.{class}.day_bytes"))
}

/// How many records of a direction have arrived.
async fn arrived(rig: &Rig, direction: Direction) -> usize {
    let found = match direction {
        Direction::Up => contents(&rig.core, &rig.readings_at_core()).await,
        Direction::Down => contents(&rig.edge, &rig.news).await,
    };
    found.values().map(Vec::len).sum()
}

/// With 600 records of 1 KB that are to go in a direction.
async fn with_much(mut rig: Rig, direction: Direction, class: Class) -> Rig {
    let mut routes = rig.settings.extra_routes.iter_mut();
    let route = routes.find(|route| route.direction == direction);
    route.unwrap().class = Some(class);
    let (broker, topic) = match direction {
        Direction::Up => (&rig.edge, &rig.readings),
        Direction::Down => (&rig.core, &rig.news),
    };
    random(broker, topic, 600, 1_000).await;
    rig
}

async fn as_much_crosses_as_was_allowed(rig: Rig, direction: Direction) {
    let mut rig = with_much(rig, direction, Class::Previews).await;
    rig.settings.budget.metered = true;
    if direction == Direction::Down {
        // What a faster line has brought before it can be held has crossed.
        rig.settings.budget.cap = Some("100KB".parse().unwrap());
    }
    let running = rig.start();
    assert!(
        held(&rig, Class::Previews, 4.0).await < 1.0,
        "nothing is asked for before"
    );
    requests_pass(&rig, 1).await;
    assert_eq!(arrived(&rig, direction).await, 0);
    let mut allowed = 0.0;
    for bytes in [200_000_u32, 100_000] {
        set(&rig, "allow", Some(&bytes.to_string())).await;
        allowed += f64::from(bytes);
        let crossed = eventually(LIMIT, || async {
            let crossed = held(&rig, Class::Previews, 4.0).await;
            (crossed >= allowed)
                .then_some(crossed)
                .ok_or_else(|| format!("{crossed} of {allowed} bytes"))
        })
        .await;
        // What is behind a turn of each direction, and the answers that were under way.
        assert!(crossed < allowed + 70_000.0, "{crossed} of {allowed} bytes");
    }
    let carried = arrived(&rig, direction).await;
    println!("{carried} records of 1 KB for {allowed} bytes");
    // Of an answer that was cut off nothing is here.
    let least = if direction == Direction::Up { 200 } else { 120 };
    assert!((least..300).contains(&carried), "{carried} records");
    set(&rig, "budget/metered", Some("false")).await;
    set(&rig, "budget/cap", Some("null")).await;
    rig.all_is_carried().await;
    running.stop().await;
}

/// Two zones in which it is the same time of another day, and no day ends within the next hour.
pub(crate) fn days_apart() -> (&'static str, &'static str) {
    let hour = common::chassis::now_ms() / 3_600_000 % 24;
    match hour {
        // There it is about midnight.
        11 => ("Etc/GMT+10", "Etc/GMT-14"),
        _ => ("Etc/GMT+12", "Etc/GMT-12"),
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn on_a_metered_link_bulk_waits_and_as_much_crosses_as_was_allowed() {
    as_much_crosses_as_was_allowed(Rig::small_edge().await, Direction::Up).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn on_a_metered_link_as_much_comes_down_as_was_allowed() {
    as_much_crosses_as_was_allowed(Rig::small_edge().await, Direction::Down).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_2_URL"]
async fn on_a_metered_link_between_two_kafkas_as_much_goes_up_as_was_allowed() {
    let (rig, _told) = told().await;
    as_much_crosses_as_was_allowed(rig, Direction::Up).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_2_URL"]
async fn on_a_metered_link_between_two_kafkas_as_much_comes_down_as_was_allowed() {
    let (rig, _told) = told().await;
    as_much_crosses_as_was_allowed(rig, Direction::Down).await;
}

async fn spent_bytes_hold_everything(rig: Rig, direction: Direction, setting: &str, code: f64) {
    let mut rig = with_much(rig, direction, Class::Sensors).await;
    let (zone, other) = days_apart();
    rig.settings.budget.zone = zone.into();
    // From the start: on loopback all is carried in a moment.
    let most = Some("200KB".parse().unwrap());
    match setting {
        "per_day" => rig.settings.budget.per_day = most,
        _ => rig.settings.budget.per_month = most,
    }
    let running = rig.start();
    let crossed = held(&rig, Class::Sensors, code).await;
    assert!(crossed < 270_000.0, "{crossed} bytes");
    rig.reports("one", |status| {
        let until = gauge(status, "class.sensors.held_until");
        status.state == ServiceState::Waiting && until > common::chassis::now_ms() as f64
    })
    .await;
    let before = arrived(&rig, direction).await;
    assert!(before < 600);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(arrived(&rig, direction).await, before);
    if setting == "per_day" {
        // Where it is a day later already: bytes of another day.
        set(&rig, "budget/zone", Some(&format!("\"{other}\""))).await;
        eventually(LIMIT, || async {
            let more = arrived(&rig, direction).await;
            (more > before)
                .then_some(())
                .ok_or_else(|| format!("still {more} records"))
        })
        .await;
        held(&rig, Class::Sensors, code).await;
    }
    set(&rig, &format!("budget/{setting}"), Some("null")).await;
    rig.all_is_carried().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn when_the_days_bytes_are_spent_everything_waits_for_the_next_day() {
    spent_bytes_hold_everything(Rig::small_edge().await, Direction::Up, "per_day", 2.0).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_2_URL"]
async fn between_two_kafkas_nothing_comes_down_either_when_the_days_bytes_are_spent() {
    let (rig, _told) = told().await;
    spent_bytes_hold_everything(rig, Direction::Down, "per_day", 2.0).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn what_was_under_way_when_the_days_bytes_were_spent_hides_nothing_at_the_core() {
    let mut rig = with_much(Rig::small_edge().await, Direction::Up, Class::Sensors).await;
    rig.settings.budget.zone = days_apart().0.into();
    rig.settings.budget.per_day = Some("200KB".parse().unwrap());
    let running = rig.start();
    held(&rig, Class::Sensors, 2.0).await;
    let before = arrived(&rig, Direction::Up).await;
    let topic = rig.readings_at_core();
    // One behind whatever was left open in each partition; whoever reads what is committed waits for that.
    let behind = (0..3).map(|partition| Outgoing {
        partition: Some(partition),
        ..crate::rig::record(&topic, 1_000_000)
    });
    rig.core
        .producer()
        .unwrap()
        .send_all(behind.collect())
        .await
        .unwrap();
    eventually(Duration::from_secs(20), || async {
        let found = arrived(&rig, Direction::Up).await;
        (found == before + 3)
            .then_some(())
            .ok_or_else(|| format!("{found}, not {}", before + 3))
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn when_the_months_bytes_are_spent_everything_waits() {
    spent_bytes_hold_everything(Rig::small_edge().await, Direction::Up, "per_month", 3.0).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_2_URL"]
async fn between_two_kafkas_everything_waits_when_the_months_bytes_are_spent() {
    let (rig, _told) = told().await;
    spent_bytes_hold_everything(rig, Direction::Up, "per_month", 3.0).await;
}

async fn lower_class_gets_its_share(rig: Rig) {
    let mut rig = with_much(rig, Direction::Up, Class::Sensors).await;
    let pictures = testkit::unique("pictures");
    rig.edge
        .create_topic(&TopicSpec::new(&pictures, 1))
        .await
        .unwrap();
    random(&rig.edge, &pictures, 300, 1_000).await;
    rig.settings.extra_routes.push(Route {
        name: "pictures".into(),
        direction: Direction::Up,
        topics: vec![pictures.clone()],
        pattern: None,
        rename: Rename::Prefix,
        class: Some(Class::Previews),
        live_first: false,
    });
    rig.settings.budget.cap = Some("30KB".parse().unwrap());
    rig.settings.budget.share = 10;
    let running = rig.start();
    let bytes = async |least: f64| {
        let status = rig
            .reports("one", |status| gauge(status, "class.sensors.day_bytes") > least)
            .await;
        ["sensors", "previews"].map(|class| gauge(&status, &format!("class.{class}.day_bytes")))
    };
    let first = bytes(60_000.0).await;
    let last = bytes(first[0] + 150_000.0).await;
    let share = (last[1] - first[1]) / (last[0] - first[0] + last[1] - first[1]);
    println!("previews got {share:.3}");
    // A tenth of what sensors get. Without classes it would be half.
    assert!((0.07..0.13).contains(&share), "{share}");
    // A fiftieth from now on.
    set(&rig, "budget/share", Some("2")).await;
    rig.reports("one", |status| gauge(status, "share") == 2.0).await;
    let first = bytes(last[0]).await;
    let last = bytes(first[0] + 60_000.0).await;
    let share = (last[1] - first[1]) / (last[0] - first[0] + last[1] - first[1]);
    println!("and then {share:.3}");
    assert!((0.005..0.05).contains(&share), "{share}");
    set(&rig, "budget/cap", Some("null")).await;
    rig.all_is_carried().await;
    eventually(LIMIT, || async {
        let found = contents(&rig.core, &format!("{}.{pictures}", rig.site)).await;
        let count: usize = found.values().map(Vec::len).sum();
        (count == 300)
            .then_some(())
            .ok_or_else(|| format!("{count} of 300"))
    })
    .await;
    running.stop().await;
}

/// Making topics and widening them too, and putting a record aside that came down in vain.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn lower_class_gets_its_share_while_a_higher_one_could_take_everything() {
    lower_class_gets_its_share(Rig::small_edge().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_2_URL"]
async fn between_two_kafkas_a_lower_class_gets_its_share() {
    let (rig, _told) = told().await;
    lower_class_gets_its_share(rig).await;
}

async fn what_is_counted_is_what_crosses(mut rig: Rig, line: Proxy) {
    rig.settings.core.url = format!("kafka://{}", line.address());
    let state = testkit::temp_dir();
    rig.settings.state = Some(state.path().to_owned());
    let narrow = rig.readings_at_core();
    rig.core.delete_topic(&narrow).await.unwrap();
    rig.core.create_topic(&TopicSpec::new(&narrow, 1)).await.unwrap();
    let keys = testkit::unique("keys");
    rig.edge
        .create_topic(&TopicSpec::new(&keys, 2).compacted())
        .await
        .unwrap();
    rig.settings.extra_routes.push(Route {
        name: "keys".into(),
        direction: Direction::Up,
        topics: vec![keys.clone()],
        pattern: None,
        rename: Rename::Prefix,
        class: None,
        live_first: true,
    });
    random(&rig.edge, &keys, 50, 1_000).await;
    let mut news = TopicSpec::new(&rig.news, 3);
    news.max_message_bytes = 10_000;
    rig.edge.create_topic(&news).await.unwrap();
    let running = rig.start();
    rig.send(0, 90).await;
    rig.all_is_carried().await;
    random(&rig.core, &rig.news, 1, 15_000).await;
    rig.reports("one", |status| status.counters.get("refused") == Some(&1))
        .await;
    let letters = contents(&rig.core, &format!("{}.dead-letter", rig.news)).await;
    assert_eq!(letters.values().flatten().count(), 1);
    let made = format!("{}.{keys}", rig.site);
    eventually(LIMIT, || async {
        let mut found = contents(&rig.core, &made).await;
        found.extend(contents(&rig.core, &format!("{made}.backlog")).await);
        (!found.is_empty())
            .then_some(())
            .ok_or_else(|| "nothing yet".to_owned())
    })
    .await;
    let found = rig.core.describe(&made).await.unwrap().unwrap();
    assert_eq!((found.partitions, found.cleanup), (2, Cleanup::Compact));
    assert_eq!(rig.core.describe(&narrow).await.unwrap().unwrap().partitions, 3);
    // What was spent is written down every few seconds.
    eventually(LIMIT, || async {
        let kept = std::fs::read(state.path().join("link-budget.json")).unwrap();
        let kept: serde_json::Value = serde_json::from_slice(&kept).unwrap();
        let counts = kept["day"]["bytes"].as_object().unwrap().values();
        let counted: u64 = counts.map(|bytes| bytes.as_u64().unwrap()).sum();
        let crossed = line.carried().bytes();
        (counted == crossed)
            .then_some(())
            .ok_or_else(|| format!("{counted} bytes counted, {crossed} have crossed"))
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_LINE and KAFKA_FAR"]
async fn what_is_counted_is_what_crosses_also_when_topics_are_made_and_records_are_refused() {
    let (_port, line) = line().await;
    what_is_counted_is_what_crosses(Rig::small_edge().await, line).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_EDGE_2_URL, KAFKA_LINE and KAFKA_FAR"]
async fn between_two_kafkas_what_is_counted_is_what_crosses() {
    let (rig, _told) = told().await;
    let (_port, line) = line().await;
    what_is_counted_is_what_crosses(rig, line).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_EDGE_2_URL, KAFKA_LINE_TLS and KAFKA_FAR_TLS"]
async fn between_two_kafkas_handshakes_and_what_encryption_takes_are_counted() {
    let (mut rig, _told) = told().await;
    let (_one, line) = encrypted_line().await;
    rig.settings.core.tls = mutual_tls();
    what_is_counted_is_what_crosses(rig, line).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn limits_that_cannot_be_kept_because_librdkafka_carries_stand_in_every_status() {
    let mut rig = Rig::small_edge().await;
    rig.settings.whole_batches = false;
    let running = rig.start();
    rig.send(0, 50).await;
    rig.all_is_carried().await;
    let told = rig
        .reports("one", |status| status.state == ServiceState::Running)
        .await;
    assert_eq!(told.detail, None, "no limit is set");
    set(&rig, "budget/cap", Some("\"32KB\"")).await;
    let told = rig.reports("one", |status| status.detail.is_some()).await;
    assert!(
        told.detail
            .unwrap()
            .contains("neither counted nor held to its budget")
    );
    set(&rig, "budget/cap", None).await;
    rig.reports("one", |status| status.detail.is_none()).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_2_URL"]
async fn limits_that_a_restart_would_take_back_are_not_in_force_and_that_stands_in_every_status() {
    let (mut rig, _told) = told().await;
    rig.settings.state = None;
    let running = rig.start();
    rig.runs("one").await;
    set(&rig, "budget/per_day", Some("\"1KB\"")).await;
    set(&rig, "budget/metered", Some("true")).await;
    set(&rig, "allow", Some("20000")).await;
    let told = rig
        .reports("one", |status| {
            let detail = status.detail.as_deref().unwrap_or_default();
            // Neither is anything that comes by another way than the link.
            detail.contains("allow, budget/per_day: not in force") && detail.contains("set link.door.listen")
        })
        .await;
    assert!(told.last_error.unwrap().contains("set link.state"));
    assert_eq!(held(&rig, Class::Assets, 4.0).await, 0.0, "nothing is allowed");
    rig.send(0, 50).await;
    rig.all_is_carried().await;
    for key in ["budget/per_day", "budget/metered", "allow"] {
        set(&rig, key, None).await;
    }
    rig.reports("one", |status| status.detail.is_none()).await;
    running.stop().await;
}
