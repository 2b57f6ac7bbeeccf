use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use prometheus::Registry;
use table::{Error, Session, Settings, Tls};

table::rules!(run #[ignore = "needs CASSANDRA_URL"]);

/// A keyspace of its own for each test, dropped at the end, also of a failed one.
async fn run(rule: impl AsyncFnOnce(&Session) -> table::Result<()>) {
    let url = testkit::keyspace();
    // A busy machine may need seconds for what it else does in milliseconds.
    let request_timeout = Duration::from_secs(20);
    let settings = Settings {
        url: url.clone(),
        request_timeout,
        ..Settings::default()
    };
    let session = Session::open(&settings, "tests", &Registry::new()).await.unwrap();
    let outcome = AssertUnwindSafe(rule(&session)).catch_unwind().await;
    let (host, keyspace) = url.strip_prefix("cassandra://").unwrap().split_once('/').unwrap();
    let driver = scylla::client::session_builder::SessionBuilder::new()
        .known_node(host)
        .build()
        .await
        .unwrap();
    let mut drop = scylla::statement::Statement::new(format!("DROP KEYSPACE IF EXISTS {keyspace}"));
    drop.set_request_timeout(Some(Duration::from_secs(60)));
    driver.query_unpaged(drop, ()).await.unwrap();
    match outcome {
        Ok(result) => result.unwrap(),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// TLS with a client's certificate, against the node that the engines' script set up.
#[tokio::test]
#[ignore = "needs CASSANDRA_URL"]
async fn mutual_tls_is_spoken() {
    let url = std::env::var("CASSANDRA_URL").expect("CASSANDRA_URL is not set: make engines-up");
    let path = |name: &str| {
        Some(
            std::env::var(name)
                .expect("the engines' certificates are not set")
                .into(),
        )
    };
    let tls = Tls {
        ca: path("ENGINES_TLS_CA"),
        certificate: path("ENGINES_TLS_CERTIFICATE"),
        key: path("ENGINES_TLS_KEY"),
    };
    let settings = Settings {
        url,
        tls,
        ..Settings::default()
    };
    let session = Session::open(&settings, "tests", &Registry::new()).await.unwrap();
    session.ping().await.unwrap();
}

#[tokio::test]
async fn an_unreachable_cluster_is_named_within_the_limit_with_a_hint() {
    // Bound and not listened on by anything else: port 0 gives one that nobody answers on once it is closed.
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("cassandra://{closed}/nowhere");
    let settings = Settings {
        url,
        connect_timeout: Duration::from_secs(1),
        ..Settings::default()
    };
    let started = Instant::now();
    let error = Session::open(&settings, "tests", &Registry::new())
        .await
        .unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(error.retryable() && matches!(error, Error::Unreachable { .. }));
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("cannot reach cassandra at {closed} within 1s (hint:")),
        "{text}"
    );
}
