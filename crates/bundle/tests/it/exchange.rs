//! The whole exchange with nothing but a stick between the sites: no link, no depot, no mirror.

use std::time::Duration;

use common::broker::{self, Outgoing};
use common::chassis::{Host, HostSettings, Service, Span, Stop, now_ms, run_in};
use common::schemas::{self, topic};
use common::table::{self, Row, Value, Write};
use common::telemetry::Telemetry;
use common::volume::{self, ManifestEntry};
use testkit::{asset_id, downloaded, eventually, hash};

use crate::rig::Rig;

const LIMIT: Duration = Duration::from_secs(60);

/// The services of a site that run while the test does.
struct Running(Stop);

impl Running {
    fn start<S: Service>(&self, site: &str, settings: S::Settings) {
        let host = HostSettings {
            site: site.to_owned(),
            instance: Some("test".to_owned()),
            ..HostSettings::default()
        };
        let host = Host::new(S::NAME, host, Telemetry::detached(), self.0.clone());
        tokio::spawn(async move { run_in::<S>(host, settings).await.unwrap() });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Rig {
    fn engines(&self, home: &str) -> (broker::Settings, table::Settings, volume::Settings) {
        let home = self.directory.path().join(home);
        let table = table::Settings {
            url: testkit::sqlite(&home, "table.db"),
            ..table::Settings::default()
        };
        let volume = volume::Settings {
            url: testkit::directory(&home, "volume"),
            ..volume::Settings::default()
        };
        (
            broker::Settings::url(testkit::sqlite(&home, "broker.db")),
            table,
            volume,
        )
    }

    fn services(&self) -> Running {
        let running = Running(Stop::new());
        let (broker, table, volume) = self.engines("core");
        let broadcaster = broadcaster::Settings {
            broker: broker.clone(),
            table: table.clone(),
            ..broadcaster::Settings::default()
        };
        running.start::<broadcaster::Broadcaster>("core", broadcaster);
        let responder = responder::Settings {
            broker,
            table,
            volume,
            ..responder::Settings::default()
        };
        running.start::<responder::Responder>("core", responder);
        let (broker, table, _) = self.engines("edge");
        let listener = listener::Settings {
            broker: broker.clone(),
            table: table.clone(),
            ..listener::Settings::default()
        };
        running.start::<listener::Listener>(self.edge.site.as_str(), listener);
        let requester = requester::Settings {
            broker,
            table,
            poll: Span::millis(100),
        };
        running.start::<requester::Requester>(self.edge.site.as_str(), requester);
        running
    }

    async fn row(&self, wanted: &str, satisfies: impl Fn(&Row) -> bool) {
        let id = asset_id(1);
        let key = [("bucket", id.bucket().into()), ("asset_id", id.as_str().into())];
        eventually(LIMIT, || async {
            let row = self.edge.table.get("assets", &key).await.unwrap();
            row.filter(&satisfies).map(drop).ok_or(wanted)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asset_is_announced_asked_for_and_delivered_by_three_bundles_and_the_fourth_confirms_it() {
    let rig = Rig::new().await;
    let running = rig.services();
    let bytes = vec![7; 300_000];
    let mut writer = rig.core.volume.writer().await.unwrap();
    writer.write(&bytes).await.unwrap();
    writer.finish().await.unwrap();
    let asset = schemas::encode(&downloaded(1, &bytes)).unwrap();
    let id = asset_id(1);
    let word = Outgoing::new(topic::ASSET_PIPELINE, id.as_str(), asset);
    rig.core.broker.producer().unwrap().send(word).await.unwrap();

    // Down: what there is.
    eventually(LIMIT, || async {
        let all = crate::rig::contents(&rig.core.broker, topic::ASSET_BROADCAST).await;
        if all.is_empty() {
            Err("no broadcast")
        } else {
            Ok(())
        }
    })
    .await;
    rig.export_down().await;
    rig.import_down().await;
    rig.row("no row of the broadcast", |row| row.text("title").is_some())
        .await;

    // Up: the team asks.
    let row = Write::to("assets")
        .set("bucket", id.bucket())
        .set("asset_id", id.as_str())
        .set("attempt", 1)
        .set("requesting_at", Value::timestamp(now_ms()));
    rig.edge.table.upsert(row).await.unwrap();
    let pending = Write::to("requests")
        .set("queue", "pending")
        .set("asset_id", id.as_str())
        .set("attempt", 1)
        .set("action", "request")
        .set("asked_at", Value::timestamp(now_ms()))
        .set("asked_by", "ada")
        .ttl(LIMIT);
    rig.edge.table.upsert(pending).await.unwrap();
    rig.row("not requested", |row| {
        !matches!(row.value("requested_attempt"), Value::Null)
    })
    .await;
    rig.export_up().await;
    rig.import_up().await;

    // Down: the answer, and the bytes.
    let entries = async || {
        rig.core
            .volume
            .list_entries(&ManifestEntry::prefix(&rig.edge.site), None, 9)
            .await
            .unwrap()
    };
    eventually(LIMIT, || async {
        if entries().await.is_empty() {
            Err("no entry")
        } else {
            Ok(())
        }
    })
    .await;
    let response = format!("{}.ASSET_RESPONSE", rig.edge.site);
    eventually(LIMIT, || async {
        let all = crate::rig::contents(&rig.core.broker, &response).await;
        if all.is_empty() { Err("no answer") } else { Ok(()) }
    })
    .await;
    rig.export_down().await;
    assert_eq!(rig.import_down().await.assets, 1);
    rig.row("not mirrored", |row| {
        row.text("mirrored_hash") == Some(hash(&bytes).as_str())
    })
    .await;
    rig.row("not answered", |row| row.text("response") == Some("ready"))
        .await;
    let there = rig.edge.volume.read(&hash(&bytes), 0..300_000).await.unwrap();
    assert!(there == bytes);

    // Up: the receipt closes the entry.
    rig.export_up().await;
    rig.import_up().await;
    eventually(LIMIT, || async {
        if entries().await.is_empty() {
            Ok(())
        } else {
            Err("the entry is open")
        }
    })
    .await;
    drop(running);
}
