#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

use chassis::Host;
use table::Session;

#[tokio::test]
async fn each_engine_that_is_opened_has_its_check() {
    let directory = testkit::temp_dir();
    let host = Host::detached("test", "north");
    let settings = broker::Settings::url(testkit::sqlite(directory.path(), "broker.db"));
    engines::broker(&host, &settings).await.unwrap();
    let settings = table::Settings {
        url: testkit::sqlite(directory.path(), "table.db"),
        ..table::Settings::default()
    };
    engines::table(&host, &settings, schemas::EDGE_TABLES)
        .await
        .expect_err("tables that nobody has made are refused");
    let maker = Session::open(&settings, "maker", &Default::default())
        .await
        .unwrap();
    maker.migrate(schemas::EDGE_TABLES).await.unwrap();
    engines::table(&host, &settings, schemas::EDGE_TABLES)
        .await
        .unwrap();
    let settings = volume::Settings {
        url: testkit::directory(directory.path(), "volume"),
        ..volume::Settings::default()
    };
    engines::volume(&host, &settings).await.unwrap();
    host.ready();
    let readiness = host.readiness().await;
    assert!(readiness.ready, "{:?}", readiness.checks);
    let checks: Vec<_> = readiness.checks.keys().map(String::as_str).collect();
    assert_eq!(checks, ["broker", "service", "table", "volume"]);
}
