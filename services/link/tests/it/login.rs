//! Users and passwords, as a real broker takes them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use common::broker;
use common::kafka::{Cluster, Dial, Error, Sasl, Settings, Stream, Tcp};

use crate::kafka::{told, url};
use crate::rig::Rig;

const USERS: [(&str, &str); 3] = [
    ("PLAIN", "link-plain"),
    ("SCRAM-SHA-256", "link-256"),
    ("SCRAM-SHA-512", "link-512"),
];

/// Counts connections.
#[derive(Debug, Default)]
struct Counting(AtomicUsize);

#[async_trait]
impl Dial for Counting {
    async fn dial(&self, host: &str, port: u16) -> io::Result<Box<dyn Stream>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Tcp.dial(host, port).await
    }
}

fn cluster(mechanism: &str, username: &str, password: &str, dial: &Arc<Counting>) -> Cluster {
    let servers = url("KAFKA_SASL_URL");
    let mut settings = Settings::new(servers.strip_prefix("kafka://").unwrap(), "test");
    settings.sasl = Some(Sasl {
        mechanism: mechanism.into(),
        username: username.into(),
        password: password.into(),
    });
    Cluster::new(settings, dial.clone())
}

#[tokio::test]
#[ignore = "needs KAFKA_SASL_URL"]
async fn password_lets_in_and_a_wrong_one_is_named_and_not_tried_again_at_once() {
    for (mechanism, username) in USERS {
        let dial = Arc::new(Counting::default());
        let right = cluster(mechanism, username, &url("ENGINES_SASL_PASSWORD"), &dial);
        right.ping().await.unwrap();
        let found = right.topics(&["there-is-none"]).await.unwrap();
        assert_eq!(found, [None]);

        let dial = Arc::new(Counting::default());
        let wrong = cluster(mechanism, username, "secret-guess", &dial);
        for _ in 0..5 {
            let error = wrong.ping().await.unwrap_err();
            assert!(matches!(error, Error::Login { .. }), "{error}");
            let said = error.to_string();
            assert!(
                said.contains("refuses the login") && !said.contains("secret-guess"),
                "{said}"
            );
        }
        assert_eq!(dial.0.load(Ordering::Relaxed), 1, "{mechanism}");
    }
}

#[tokio::test]
#[ignore = "needs KAFKA_SASL_URL"]
async fn way_to_log_in_that_is_not_offered_is_named_with_those_that_are() {
    let dial = Arc::new(Counting::default());
    let error = cluster("OAUTHBEARER", "link-plain", "x", &dial)
        .ping()
        .await
        .unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("not OAUTHBEARER") && said.contains("SCRAM-SHA-512"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_SASL_URL and KAFKA_URL"]
async fn link_logs_in_and_says_so_when_it_is_not_let_in() {
    logs_in(Rig::small_edge().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_SASL_URL, KAFKA_URL and KAFKA_EDGE_2_URL"]
async fn link_between_two_kafkas_logs_in_and_says_so_when_it_is_not_let_in() {
    let (rig, _told) = told().await;
    logs_in(rig).await;
}

async fn logs_in(mut rig: Rig) {
    let mut sent = 0;
    for (mechanism, username) in USERS {
        let sasl = |password: &str| broker::Sasl {
            mechanism: Some(mechanism.into()),
            username: Some(username.into()),
            password: Some(common::chassis::Secret::new(password)),
            password_file: None,
        };
        rig.settings.core = broker::Settings {
            sasl: sasl(&url("ENGINES_SASL_PASSWORD")),
            ..broker::Settings::url(url("KAFKA_SASL_URL"))
        };
        let running = rig.start();
        rig.send(sent, 50).await;
        sent += 50;
        rig.all_is_carried().await;
        running.stop().await;
        rig.settings.core.sasl = sasl("secret-guess");
        let running = rig.start_as(username);
        rig.waits(username, &["refuses the login"]).await;
        running.stop().await;
    }
}
