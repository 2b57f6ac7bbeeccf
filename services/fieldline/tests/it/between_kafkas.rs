//! `link verify` and `link offsets` between two Kafkas, while the link is at work.

use std::path::Path;

use common::broker::{self, Broker, Outgoing, Position, TopicSpec};
use common::chassis::{Config, Host, HostSettings, Stop, run_in};
use common::schemas::{SiteId, Topic};
use common::telemetry::Telemetry;
use link::Link;
use testkit::eventually;
use tokio::task::JoinHandle;

use crate::rig::{Said, fieldline};
use crate::running::LIMIT;

#[expect(clippy::disallowed_methods, reason = "tests are told where the engines are")]
fn url(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; make engines-up tells what to set"))
}

async fn open(variable: &str) -> Broker {
    let settings = broker::Settings::url(url(variable));
    Broker::open(&settings, "test", &prometheus::Registry::new())
        .await
        .unwrap()
}

async fn make(broker: &Broker, topics: impl IntoIterator<Item = Topic>) {
    for topic in topics {
        broker.create_topic(&TopicSpec::of(&topic, 1, 1)).await.unwrap();
    }
}

async fn send(broker: &Broker, topic: &str, partition: i32, numbers: std::ops::Range<i32>) {
    let record = |number: i32| Outgoing {
        partition: Some(partition),
        ..Outgoing::new(
            topic,
            number.to_string(),
            format!("reading {number}").into_bytes(),
        )
    };
    let records = numbers.map(record).collect();
    broker.producer().unwrap().send_all(records).await.unwrap();
}

/// The link of these settings, at work.
fn start(settings: &Path, site: &SiteId) -> (Stop, JoinHandle<anyhow::Result<()>>) {
    let loaded = Config::read(Some(settings), []).unwrap().load::<Link>().unwrap();
    let host = HostSettings {
        site: site.to_string(),
        ..HostSettings::default()
    };
    let stop = Stop::new();
    let host = Host::new("link", host, Telemetry::detached(), stop.clone());
    (stop, tokio::spawn(run_in::<Link>(host, loaded.settings)))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL and KAFKA_EDGE_URL"]
async fn between_two_kafkas_what_was_carried_is_verified_and_empty_groups_move() {
    let (edge, core) = (open("KAFKA_EDGE_URL").await, open("KAFKA_URL").await);
    let site: SiteId = testkit::unique("edge").parse().unwrap();
    let (ore, group) = (testkit::unique("ore"), testkit::unique("analysts"));
    let at_core = format!("{site}.{ore}");
    make(&core, Topic::core()).await;
    make(&core, Topic::core_for(&site)).await;
    make(&edge, Topic::edge(&site)).await;
    for (broker, topic) in [(&edge, &ore), (&core, &at_core)] {
        broker.create_topic(&TopicSpec::new(topic, 2)).await.unwrap();
    }
    let directory = testkit::temp_dir();
    let file = directory.path().join("edge.toml");
    let settings = format!(
        "[common]\nsite = \"{site}\"\n[common.broker]\nurl = {:?}\n[link.core]\nurl = {:?}\n\
         [[link.extra_routes]]\nname = \"ore\"\ndirection = \"up\"\ntopics = [{ore:?}]\nrename = \"prefix\"\n",
        url("KAFKA_EDGE_URL"),
        url("KAFKA_URL")
    );
    std::fs::write(&file, settings).unwrap();
    let file_name = file.display().to_string();
    let (stop, link) = start(&file, &site);
    // Each command looks from a process of its own while the link is at work.
    let tell = async |words: &[&str]| -> Said {
        let words: Vec<String> = [&["link"], words]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect();
        let config = ["--config".to_owned(), file_name.clone()];
        let words = [words, config.to_vec()].concat();
        let said = tokio::task::spawn_blocking(move || {
            fieldline(&words.iter().map(String::as_str).collect::<Vec<_>>())
        });
        said.await.unwrap()
    };
    let arrived = async |wanted: usize| {
        eventually(LIMIT, || async {
            let mut found = 0;
            let read = core.read_to_end(&at_core, |_| found += 1).await;
            // A topic that was made a moment ago may have no leaders yet.
            read.map_err(|error| error.to_string())?;
            (found == wanted)
                .then_some(())
                .ok_or_else(|| format!("{found} of {wanted}"))
        })
        .await;
    };

    send(&edge, &ore, 0, 0..30).await;
    send(&edge, &ore, 1, 0..20).await;
    arrived(50).await;
    let verify = ["verify", "--topic", &ore];
    tell(&verify)
        .await
        .prints("reading 50 records, about ")
        .prints(&format!("{ore}/0"))
        .prints("same");
    let json = tell(&["verify", "--topic", &at_core, "--json"]).await.json();
    for (partition, records) in [(0, 30), (1, 20)] {
        let found = &json["partitions"][partition];
        assert_eq!(found["verdict"], "same", "{json}");
        assert_eq!(found["source_records"], records, "{json}");
        assert_eq!(found["source_digest"], found["destination_digest"], "{json}");
    }

    // A group that has read some of it moves where nobody is in it, on either side.
    edge.commit_for(&group, &ore, &[(0, 12), (1, 20)]).await.unwrap();
    let offsets = ["offsets", "--group", &group];
    tell(&offsets)
        .await
        .prints(&format!("{at_core}/0"))
        .prints("exact")
        .prints("nothing is committed; --group and --apply do that");
    let shown = tell(&["offsets", "--group", &group, "--json"]).await.json();
    let position = |partition: usize| shown["positions"][partition]["position"].as_i64().unwrap();
    let there = Position::at(&at_core, 0, position(0));
    let mut reader = core.reader(&[there]).await.unwrap();
    let next = reader.next(1, LIMIT).await.unwrap().remove(0);
    assert_eq!(next.value.as_deref(), Some(&b"reading 12"[..]), "{shown}");
    let apply = ["offsets", "--group", &group, "--apply"];
    let member = core.lease(&at_core, &group).await.unwrap();
    member.acquired().await;
    tell(&offsets).await.prints(&format!("{group} is in use by "));
    tell(&apply)
        .await
        .fails(1, &format!("group {group} is in use by "));
    assert_eq!(core.committed(&group, &at_core).await.unwrap(), []);
    member.release().await;
    tell(&apply)
        .await
        .prints("2 positions are committed on the other side");
    let mut committed = core.committed(&group, &at_core).await.unwrap();
    committed.sort_unstable();
    assert_eq!(committed, [(0, position(0)), (1, position(1))]);

    // Somebody else writes at the core, and the link goes on behind that.
    let before = core.watermarks(&at_core, 0).await.unwrap().high;
    send(&core, &at_core, 0, 90..91).await;
    send(&edge, &ore, 0, 30..35).await;
    arrived(56).await;
    let said = tell(&verify).await;
    said.fails(1, "source and destination differ in 1 partitions");
    for wanted in [
        "1 DIFFER".to_owned(),
        format!("{ore}/0: first at 30 here, {before} in {at_core}: "),
        "the source has not".to_owned(),
        "same".to_owned(),
    ] {
        assert!(said.out.contains(&wanted), "{wanted:?} is not in {said:?}");
    }
    let said = tell(&["verify", "--topic", &ore, "--json"]).await;
    said.fails(1, "differ in 1 partitions");
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(json["partitions"][0]["verdict"], "different", "{json}");
    assert_eq!(json["partitions"][1]["verdict"], "same", "{json}");

    stop.cancel();
    link.await.unwrap().unwrap();
}
