//! Many services in one process.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chassis::{Again, Config, Entry, Fenced, Group, Host, Service, Settings, Stop};
use serde::{Deserialize, Serialize};
use telemetry::Telemetry;
use testkit::eventually;

const LIMIT: Duration = Duration::from_secs(20);

static AGAIN: AtomicU32 = AtomicU32::new(0);

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Plan {
    end: String,
}

impl Settings for Plan {
    fn validate(&self) -> Result<(), Vec<String>> {
        if self.end == "wrong" {
            Err(vec!["end: is wrong".into()])
        } else {
            Ok(())
        }
    }
}

macro_rules! service {
    ($type:ident, $name:literal) => {
        struct $type(Plan);

        impl Service for $type {
            const NAME: &'static str = $name;
            type Settings = Plan;

            async fn build(plan: Plan, host: &Host) -> anyhow::Result<Self> {
                host.registry()
                    .register(Box::new(prometheus::IntGauge::new(
                        "built",
                        "whether it is",
                    )?))?;
                Ok(Self(plan))
            }

            async fn run(self, stop: Stop) -> anyhow::Result<()> {
                static FAILURES: AtomicU32 = AtomicU32::new(0);
                match self.0.end.as_str() {
                    "fail once" if FAILURES.fetch_add(1, Ordering::Relaxed) == 0 => {
                        anyhow::bail!("first time")
                    }
                    "again once" if AGAIN.fetch_add(1, Ordering::Relaxed) == 0 => return Err(Again.into()),
                    "fail" => anyhow::bail!("every time"),
                    "fenced" => return Err(anyhow::anyhow!("taken over").context(Fenced)),
                    _ => stop.cancelled().await,
                }
                Ok(())
            }
        }
    };
}
service!(Red, "red");
service!(Blue, "blue");

fn config(site: &str, red: &str) -> Config {
    Config::parse(&format!("[common]\nsite = '{site}'\n[red]\nend = '{red}'\n")).unwrap()
}

fn entries() -> [Entry; 2] {
    [Entry::of::<Red>(), Entry::of::<Blue>()]
}

#[tokio::test]
async fn services_of_several_sites_run_and_stop_together() {
    let stop = Stop::new();
    let mut group = Group::new(Telemetry::detached(), stop.clone());
    for site in ["core", "edge-1"] {
        for entry in entries() {
            group.start(&entry, &config(site, "")).unwrap();
        }
    }
    group.ready(LIMIT).await.unwrap();
    let members = group.members();
    let names: Vec<_> = members
        .iter()
        .map(|member| (member.host.site(), member.host.service()))
        .collect();
    assert_eq!(
        names,
        [
            ("core", "blue"),
            ("core", "red"),
            ("edge-1", "blue"),
            ("edge-1", "red")
        ]
    );
    let metrics = group.metrics().unwrap();
    assert_eq!(
        metrics.lines().filter(|line| line.starts_with("built{")).count(),
        4,
        "{metrics}"
    );
    stop.cancel();
    tokio::time::timeout(LIMIT, group.wait()).await.unwrap().unwrap();
}

#[tokio::test]
async fn first_failure_ends_a_group_that_does_not_restart() {
    let mut group = Group::new(Telemetry::detached(), Stop::new());
    for entry in entries() {
        group.start(&entry, &config("core", "fail")).unwrap();
    }
    let error = tokio::time::timeout(LIMIT, group.wait())
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.to_string(), "red at core: every time");
}

#[tokio::test]
async fn failed_service_starts_again_and_its_failure_stays_visible() {
    let stop = Stop::new();
    let mut group = Group::new(Telemetry::detached(), stop.clone()).restarting();
    for entry in entries() {
        group.start(&entry, &config("core", "fail once")).unwrap();
    }
    let view = group.view();
    let member = eventually(LIMIT, || async {
        let red = view()
            .into_iter()
            .find(|member| member.host.service() == "red")
            .unwrap();
        if red.restarts == 1 {
            Ok(red)
        } else {
            Err(format!("{} restarts", red.restarts))
        }
    })
    .await;
    assert_eq!(member.last_failure.as_deref(), Some("first time"));
    group.ready(LIMIT).await.unwrap();
    stop.cancel();
    tokio::time::timeout(LIMIT, group.wait()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_service_that_asks_to_be_built_anew_has_not_failed() {
    let stop = Stop::new();
    let mut group = Group::new(Telemetry::detached(), stop.clone());
    group
        .start(&Entry::of::<Red>(), &config("core", "again once"))
        .unwrap();
    eventually(LIMIT, || async {
        match AGAIN.load(Ordering::Relaxed) {
            2 => Ok(()),
            runs => Err(format!("{runs} runs")),
        }
    })
    .await;
    group.ready(LIMIT).await.unwrap();
    assert_eq!(group.members()[0].restarts, 0);
    assert_eq!(group.members()[0].last_failure, None);
    stop.cancel();
    tokio::time::timeout(LIMIT, group.wait()).await.unwrap().unwrap();
}

#[tokio::test]
async fn services_of_a_site_share_one_admin_port() {
    let stop = Stop::new();
    let mut group = Group::new(Telemetry::detached(), stop.clone());
    group.start(&Entry::of::<Red>(), &config("core", "work")).unwrap();
    group
        .start(&Entry::of::<Blue>(), &config("core", "work"))
        .unwrap();
    let address = group
        .listen("core", "127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    group.ready(LIMIT).await.unwrap();
    let (status, ready) = crate::host::ask(address, "/readyz").await;
    assert_eq!(status, 200, "{ready}");
    assert!(ready.contains("\"red\"") && ready.contains("\"blue\""), "{ready}");
    let (_, metrics) = crate::host::ask(address, "/metrics").await;
    assert_eq!(metrics.matches("\nbuilt{").count(), 2, "{metrics}");
    stop.cancel();
    tokio::time::timeout(LIMIT, group.wait()).await.unwrap().unwrap();
    assert!(
        tokio::net::TcpStream::connect(address).await.is_err(),
        "it closes with the group"
    );
}

#[tokio::test]
async fn fenced_service_is_not_started_again() {
    let stop = Stop::new();
    let mut group = Group::new(Telemetry::detached(), stop.clone()).restarting();
    group
        .start(&Entry::of::<Red>(), &config("core", "fenced"))
        .unwrap();
    let ready = group.ready(Duration::from_millis(500)).await.unwrap_err();
    assert_eq!(
        ready.to_string(),
        "red at core is not ready: fenced by another instance: taken over"
    );
    let error = tokio::time::timeout(LIMIT, group.wait())
        .await
        .unwrap()
        .unwrap_err();
    assert!(error.to_string().contains("fenced"), "{error}");
}

#[tokio::test]
async fn service_with_a_log_level_of_its_own_keeps_it_beside_others() {
    let (stop, telemetry) = (Stop::new(), Telemetry::detached());
    let mut group = Group::new(telemetry.clone(), stop.clone());
    let quiet = Config::parse("[red.log]\nlevel = 'warn'\n").unwrap();
    for entry in entries() {
        group
            .start(&entry, &config("core", "").with(quiet.clone()))
            .unwrap();
    }
    assert_eq!(
        (telemetry.level("core", "red"), telemetry.level("core", "blue")),
        ("warn".into(), "info".into())
    );
    stop.cancel();
    tokio::time::timeout(LIMIT, group.wait()).await.unwrap().unwrap();
}

#[tokio::test]
async fn wrong_settings_are_refused_before_anything_starts() {
    let mut group = Group::new(Telemetry::detached(), Stop::new());
    let problems = group
        .start(&Entry::of::<Red>(), &config("core", "wrong"))
        .unwrap_err();
    assert_eq!(problems.0, ["red.end: is wrong"]);
    assert!(group.members().is_empty());
    assert!(Entry::of::<Red>().check(&config("core", "")).is_ok());
}
