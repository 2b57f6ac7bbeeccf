//! What a host promises: tasks that stop it, checks, an admin port, an end within the grace time.

use std::net::SocketAddr;
use std::time::Duration;

use chassis::{Host, HostSettings, HostState, Secret, Service, Settings, Span, Stop, run_in};
use serde::{Deserialize, Serialize};
use telemetry::Telemetry;
use testkit::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Script {
    name: String,
    password: Option<Secret>,
}

impl Settings for Script {
    fn validate(&self) -> Result<(), Vec<String>> {
        Ok(())
    }
}

fn script(name: &str) -> Script {
    Script {
        name: name.into(),
        password: Some(Secret::new("hunter2")),
    }
}

/// Does what its script says.
struct Actor {
    script: String,
    host: Host,
}

impl Service for Actor {
    const NAME: &'static str = "actor";
    type Settings = Script;

    async fn build(script: Script, host: &Host) -> anyhow::Result<Self> {
        if script.name == "refuse" {
            anyhow::bail!("no broker");
        }
        if script.name == "cannot be stopped" {
            host.stop().cancelled().await;
            anyhow::bail!("stopped before it was built");
        }
        if script.name == "check" {
            host.check("broker", || async { Err("is away".into()) });
            host.check("table", || async { Ok(()) });
        }
        Ok(Self {
            script: script.name,
            host: host.clone(),
        })
    }

    async fn run(self, stop: Stop) -> anyhow::Result<()> {
        match self.script.as_str() {
            "panic" => panic!("at work"),
            "task panics" => self.host.spawn("helper", async { panic!("in the task") }),
            "task fails" => self
                .host
                .spawn("helper", async { Err(anyhow::anyhow!("no more")) }),
            "task ends" => self.host.spawn("helper", async { Ok(()) }),
            "task hangs" => self.host.spawn("helper", std::future::pending()),
            _ => {}
        }
        stop.cancelled().await;
        if self.script == "hang" {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

fn host(grace: Span, admin: bool) -> Host {
    let admin = admin.then(|| "127.0.0.1:0".parse().unwrap());
    let settings = HostSettings {
        site: "core".into(),
        grace,
        admin,
        ..HostSettings::default()
    };
    Host::new("actor", settings, Telemetry::detached(), Stop::new())
}

async fn failure_of(name: &str) -> String {
    let host = host(Span::millis(50), false);
    if name == "hang" {
        host.stop().cancel();
    }
    let run = run_in::<Actor>(host.clone(), script(name));
    let error = tokio::time::timeout(LIMIT, run).await.unwrap().unwrap_err();
    assert_eq!(*host.state().borrow(), HostState::Failed);
    assert!(host.stop().is_cancelled());
    error.to_string()
}

#[tokio::test]
async fn failure_of_service_or_task_ends_the_host_with_its_reason() {
    assert_eq!(failure_of("refuse").await, "no broker");
    assert_eq!(failure_of("panic").await, "panicked: at work");
    assert_eq!(
        failure_of("task panics").await,
        "task helper failed: panicked: in the task"
    );
    assert_eq!(failure_of("task fails").await, "task helper failed: no more");
}

#[tokio::test]
async fn service_that_hangs_at_stop_is_ended_when_the_grace_time_is_over() {
    let host = host(Span::millis(50), false);
    let run = tokio::spawn(run_in::<Actor>(host.clone(), script("hang")));
    host.state()
        .wait_for(|state| *state == HostState::Running)
        .await
        .unwrap();
    host.stop().cancel();
    assert_eq!(
        run.await.unwrap().unwrap_err().to_string(),
        "did not stop within 50ms"
    );
}

#[tokio::test]
async fn task_that_ends_well_leaves_the_service_at_work_and_one_that_hangs_is_dropped_at_the_end() {
    for name in ["task ends", "task hangs"] {
        let host = host(Span::millis(100), false);
        let run = tokio::spawn(run_in::<Actor>(host.clone(), script(name)));
        host.state()
            .wait_for(|state| *state == HostState::Running)
            .await
            .unwrap();
        host.stop().cancel();
        tokio::time::timeout(LIMIT, run).await.unwrap().unwrap().unwrap();
        assert_eq!(*host.state().borrow(), HostState::Stopped);
    }
}

#[tokio::test]
async fn stop_before_the_start_is_a_clean_end() {
    // Which of the two sees the stop first is a matter of chance.
    for name in ["idle", "cannot be stopped"].repeat(20) {
        let host = host(Span::seconds(1), false);
        host.stop().cancel();
        tokio::time::timeout(LIMIT, run_in::<Actor>(host.clone(), script(name)))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(*host.state().borrow(), HostState::Stopped);
    }
}

async fn get(host: &Host, path: &str) -> (u16, String) {
    ask(host.admin_address().unwrap(), path).await
}

pub(crate) async fn ask(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn admin_port_answers_every_question() {
    let host = host(Span::seconds(5), true);
    let counter = prometheus::IntCounter::new("acts_total", "acts").unwrap();
    host.registry().register(Box::new(counter)).unwrap();
    let run = tokio::spawn(run_in::<Actor>(host.clone(), script("check")));
    host.state()
        .wait_for(|state| *state == HostState::Running)
        .await
        .unwrap();

    assert_eq!(get(&host, "/livez").await, (200, "ok\n".into()));
    let (status, body) = get(&host, "/readyz").await;
    assert_eq!(status, 503);
    let ready: serde_json::Value = serde_json::from_str(&body).unwrap();
    let checks = serde_json::json!({"broker": "is away", "service": "ok", "table": "ok"});
    assert_eq!(ready, serde_json::json!({"ready": false, "checks": checks}));
    let (_, metrics) = get(&host, "/metrics").await;
    let acts = metrics
        .lines()
        .find(|line| line.starts_with("acts_total{"))
        .unwrap();
    assert!(
        acts.contains("service=\"actor\"") && acts.contains("site=\"core\""),
        "{metrics}"
    );
    let (_, config) = get(&host, "/config").await;
    assert!(
        config.contains("[redacted]") && !config.contains("hunter2"),
        "{config}"
    );
    let (_, version) = get(&host, "/version").await;
    assert!(
        version.contains("\"service\":\"actor\"") && version.contains(chassis::VERSION),
        "{version}"
    );
    assert_eq!(get(&host, "/else").await.0, 404);

    host.check("broker", || async { Ok(()) });
    assert_eq!(
        get(&host, "/readyz").await.0,
        200,
        "a check of the same name replaces the first"
    );
    host.stop().cancel();
    run.await.unwrap().unwrap();
    eventually(LIMIT, || async {
        let open = TcpStream::connect(host.admin_address().unwrap()).await.is_ok();
        if open {
            Err("the admin port still listens")
        } else {
            Ok(())
        }
    })
    .await;
}
