//! At a core whose Kafka has rules, and lets an edge do no more than the set-up tells.

use std::collections::BTreeMap;
use std::path::Path;

use common::broker::{self, Broker, DeadLetter, Outgoing, Record, TopicSpec};
use common::identity::{Authority, KafkaNeeds, kafka_principal};
use common::schemas::{ServiceState, at_core};
use link::{Direction, Rename, Route};
use testkit::{TempDir, eventually, kafka_acls};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::kafka::{mutual_tls, url};
use crate::rig::{LIMIT, Rig, contents, record};

/// The authority that the core trusts.
pub(crate) fn authority(directory: &TempDir) -> Authority {
    for name in ["ca.crt", "ca.key"] {
        let from = Path::new(&url("ENGINES_TLS_CA")).with_file_name(name);
        std::fs::copy(from, directory.path().join(name)).unwrap();
    }
    Authority::load(directory.path()).unwrap()
}

/// Lets a principal do at the core what `fieldline site rules` prints for the rig's edge, and no more.
pub(crate) async fn let_in(rig: &Rig, principal: &str) {
    let needs = KafkaNeeds {
        down: vec![rig.news.clone()],
        ..KafkaNeeds::default()
    };
    let rules: Vec<_> = needs.rules(&rig.site, principal);
    let rules: Vec<_> = rules.iter().map(ToString::to_string).collect();
    kafka_acls::run(&url("KAFKA_URL"), &rules).await;
}

/// The rig's edge with a certificate of its own, and those rules.
async fn with_rules(rig: &mut Rig) -> TempDir {
    let directory = testkit::temp_dir();
    let own = authority(&directory).issue_site(&rig.site).unwrap();
    rig.settings.core = broker::Settings::url(url("KAFKA_TLS_URL"));
    rig.settings.core.tls = broker::Tls {
        certificate: Some(own.certificate),
        key: Some(own.key),
        ..mutual_tls()
    };
    let_in(rig, &kafka_principal(&rig.site)).await;
    directory
}

/// Sets a property of a topic (IncrementalAlterConfigs, version 0).
pub(crate) async fn set_property(server: &str, topic: &str, name: &str, value: &str) {
    let text = |text: &str| [&i16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat();
    let head = vec![0, 44, 0, 0, 0, 0, 0, 7];
    // Of one topic one property, which is set; not only to see whether it could be.
    let request = [
        head,
        text("test"),
        vec![0, 0, 0, 1, 2],
        text(topic),
        vec![0, 0, 0, 1],
        text(name),
        vec![0],
        text(value),
        vec![0],
    ];
    let request = request.concat();
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream
        .write_u32(u32::try_from(request.len()).unwrap())
        .await
        .unwrap();
    stream.write_all(&request).await.unwrap();
    let mut answer = vec![0; usize::try_from(stream.read_u32().await.unwrap()).unwrap()];
    stream.read_exact(&mut answer).await.unwrap();
    // Throttled for so long, one answer, without error.
    assert_eq!(answer[8..14], [0, 0, 0, 1, 0, 0], "{answer:?}");
}

async fn carries_with_no_more_rights_than_the_documented(mut rig: Rig) {
    let _directory = with_rules(&mut rig).await;
    let made = testkit::unique("made");
    let at_core = at_core(&rig.site, &made);
    rig.edge.create_topic(&TopicSpec::new(&made, 2)).await.unwrap();
    rig.settings.extra_routes.push(Route {
        name: "made".into(),
        direction: Direction::Up,
        topics: vec![made.clone()],
        pattern: None,
        rename: Rename::Prefix,
        class: None,
        live_first: false,
    });
    let running = rig.start();
    rig.send(0, 60).await;
    rig.all_is_carried().await;
    let arrived = async |partitions: i32| {
        let producer = rig.edge.producer().unwrap();
        let records = (0..partitions).map(|partition| Outgoing {
            partition: Some(partition),
            ..record(&made, 1)
        });
        producer.send_all(records.collect()).await.unwrap();
        eventually(LIMIT, || async {
            let there = rig.core.describe(&at_core).await.unwrap();
            let partitions = there.map_or(0, |topic| topic.partitions);
            let wanted = contents(&rig.edge, &made).await;
            let lengths = |of: &BTreeMap<i32, Vec<Record>>| of.values().map(Vec::len).collect::<Vec<_>>();
            if partitions == 0 {
                return Err("no topic".to_owned());
            }
            let found = contents(&rig.core, &at_core).await;
            (lengths(&found) == lengths(&wanted))
                .then_some(())
                .ok_or_else(|| format!("{partitions} partitions, {:?}", lengths(&found)))
        })
        .await;
    };
    arrived(2).await;
    rig.edge.add_partitions(&made, 4).await.unwrap();
    arrived(4).await;
    // All of the link works: rings are looked for too.
    rig.reports("one", |status| {
        let said = status.detail.as_deref().unwrap_or_default();
        status.state == ServiceState::Running && !said.contains("rings")
    })
    .await;
    running.stop().await;

    let own = Broker::open(&rig.settings.core, "link", &prometheus::Registry::new())
        .await
        .unwrap();
    own.watermarks(&rig.news, 0).await.unwrap();
    let others = testkit::unique("others");
    rig.core.create_topic(&TopicSpec::new(&others, 1)).await.unwrap();
    for refused in [
        own.watermarks(&others, 0).await.map(drop),
        own.create_topic(&TopicSpec::new(testkit::unique("mine"), 1))
            .await
            .map(drop),
        own.producer().unwrap().send(record(&rig.news, 1)).await.map(drop),
        own.delete_topic(&at_core).await,
    ] {
        let error = common::telemetry::chain(&refused.unwrap_err());
        assert!(error.to_lowercase().contains("authorization failed"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_TLS_URL and the certificates beside it"]
async fn small_edge_carries_with_no_more_rights_than_the_documented() {
    carries_with_no_more_rights_than_the_documented(Rig::small_edge().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_EDGE_URL, KAFKA_TLS_URL and the certificates beside it"]
async fn between_two_kafkas_it_is_carried_with_no_more_rights_than_the_documented() {
    carries_with_no_more_rights_than_the_documented(Rig::two_kafkas().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_TLS_URL and the certificates beside it"]
async fn record_refused_by_an_edge_that_may_write_no_dead_letters_at_the_core_is_one_at_the_edge() {
    let mut rig = Rig::small_edge().await;
    let _directory = with_rules(&mut rig).await;
    let letters = format!("{}.dead-letter", rig.news);
    let mut spec = TopicSpec::new(&rig.news, 3);
    spec.max_message_bytes = 2000;
    rig.edge.create_topic(&spec).await.unwrap();
    let mut records: Vec<_> = (0..60).map(|number| record(&rig.news, number)).collect();
    records[31].value = Some(vec![b'x'; 5000].into());
    rig.core.producer().unwrap().send_all(records).await.unwrap();
    let running = rig.start();
    eventually(LIMIT, || async {
        let found: usize = contents(&rig.edge, &rig.news).await.values().map(Vec::len).sum();
        (found == 59)
            .then_some(())
            .ok_or_else(|| format!("{found} of 59"))
    })
    .await;
    let told = rig
        .reports("one", |status| {
            status.state == ServiceState::Running && status.counters.get("refused") == Some(&1)
        })
        .await;
    let said = told.last_error.unwrap();
    assert!(said.contains("this site's dead letters"), "{said}");
    let found = contents(&rig.edge, &letters).await;
    let found: Vec<_> = found
        .values()
        .flatten()
        .map(|record| DeadLetter::of(record).unwrap())
        .collect();
    assert_eq!(
        (found.len(), &found[0].topic, &*found[0].service),
        (1, &rig.news, "link")
    );
    assert_eq!(
        contents(&rig.core, &letters)
            .await
            .values()
            .map(Vec::len)
            .sum::<usize>(),
        0
    );
    running.stop().await;
}
