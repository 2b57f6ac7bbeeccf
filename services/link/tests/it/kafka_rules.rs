//! At a core whose Kafka has rules, and lets an edge do no more than the set-up tells.

use std::path::Path;

use common::broker::{self, DeadLetter, TopicSpec};
use common::identity::Authority;
use common::schemas::ServiceState;
use testkit::eventually;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::kafka::url;
use crate::rig::{LIMIT, Rig, contents, record};

/// What an administrator asks a Kafka for that nobody else here does.
struct Request(Vec<u8>);

impl Request {
    fn new(api: i16, version: i16) -> Self {
        let head = [api.to_be_bytes(), version.to_be_bytes(), [0, 0], [0, 7]];
        Self(head.concat()).text("test")
    }

    fn text(mut self, text: &str) -> Self {
        self.0.extend(i16::try_from(text.len()).unwrap().to_be_bytes());
        self.0.extend(text.as_bytes());
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// Sends it, and is told that all went well: throttled for so long, one answer, without error.
    async fn send(self, server: &str) {
        let mut stream = TcpStream::connect(server).await.unwrap();
        stream
            .write_u32(u32::try_from(self.0.len()).unwrap())
            .await
            .unwrap();
        stream.write_all(&self.0).await.unwrap();
        let mut answer = vec![0; usize::try_from(stream.read_u32().await.unwrap()).unwrap()];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer[8..14], [0, 0, 0, 1, 0, 0], "{answer:?}");
    }
}

const DENY: u8 = 2;
const ALLOW: u8 = 3;

/// Sets a rule for all that a principal does with a topic (CreateAcls, version 1).
async fn rule(server: &str, principal: &str, topic: &str, which: u8) {
    // One rule, for a topic of this very name; from any host; all operations.
    let rule = Request::new(30, 1)
        .bytes(&[0, 0, 0, 1, 2])
        .text(topic)
        .bytes(&[3]);
    let rule = rule.text(principal).text("*").bytes(&[2, which]);
    rule.send(server).await;
}

/// Lets one principal alone at a topic of the core.
pub(crate) async fn only(principal: &str, topic: &str) {
    let server = url("KAFKA_URL").replace("kafka://", "");
    rule(&server, principal, topic, ALLOW).await;
}

/// Sets a property of a topic (IncrementalAlterConfigs, version 0).
pub(crate) async fn set_property(server: &str, topic: &str, name: &str, value: &str) {
    // Of one topic one property, which is set; not only to see whether it could be.
    let change = Request::new(44, 0).bytes(&[0, 0, 0, 1, 2]).text(topic);
    let change = change.bytes(&[0, 0, 0, 1]).text(name).bytes(&[0]).text(value);
    change.bytes(&[0]).send(server).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_TLS_URL and the certificates beside it"]
async fn record_refused_by_an_edge_that_may_write_no_dead_letters_at_the_core_is_one_at_the_edge() {
    let mut rig = Rig::small_edge().await;
    let directory = testkit::temp_dir();
    let ca = url("ENGINES_TLS_CA");
    for name in ["ca.crt", "ca.key"] {
        let from = Path::new(&ca).with_file_name(name);
        std::fs::copy(from, directory.path().join(name)).unwrap();
    }
    let own = Authority::load(directory.path())
        .unwrap()
        .issue_site(&rig.site)
        .unwrap();
    rig.settings.core = broker::Settings::url(url("KAFKA_TLS_URL"));
    rig.settings.core.tls = broker::Tls {
        ca: Some(ca.into()),
        certificate: Some(own.certificate),
        key: Some(own.key),
        unverified: false,
    };
    let letters = format!("{}.dead-letter", rig.news);
    let server = url("KAFKA_URL").replace("kafka://", "");
    rule(&server, &format!("User:CN={}", rig.site), &letters, DENY).await;

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
