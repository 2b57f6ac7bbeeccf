//! A whole service's binary: commands, exit codes, signals.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use testkit::{eventually, free_port};
use tokio::process::{Child, Command};

const LIMIT: Duration = Duration::from_secs(20);

/// The example, which cargo builds beside this test.
fn pulse(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let test = std::env::current_exe().unwrap();
    let example: PathBuf = test.parent().unwrap().parent().unwrap().join("examples/pulse");
    let mut command = Command::new(example);
    command
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied());
    command
        .kill_on_drop(true)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

async fn output(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let run = pulse(arguments, environment).output();
    let Output {
        status,
        stdout,
        stderr,
    } = tokio::time::timeout(LIMIT, run).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

const SITE: (&str, &str) = ("COMMON__SITE", "core");

#[tokio::test]
async fn exit_code_tells_why_it_ended() {
    assert_eq!(output(&["--nonsense"], &[]).await.0, Some(64));
    assert_eq!(output(&["version"], &[]).await.0, Some(0));
    assert_eq!(output(&["--help"], &[]).await.0, Some(0));
    let (code, _, stderr) = output(&[], &[("PULSE__INTERVAL", "0s")]).await;
    assert_eq!(code, Some(78));
    assert!(
        stderr.contains("\n  pulse.interval: must not be zero (from PULSE__INTERVAL)"),
        "{stderr}"
    );
    assert!(stderr.contains("\n  pulse.site: not set"), "{stderr}");
    for (end, code) in [("fail", 1), ("panic", 1), ("task", 1), ("fenced", 3)] {
        let (found, stdout, _) = output(&["run"], &[SITE, ("PULSE__END", end)]).await;
        assert_eq!(found, Some(code), "{end}: {stdout}");
        assert!(
            stdout.contains("\"message\":\"service failed\""),
            "{end}: {stdout}"
        );
    }
}

#[tokio::test]
async fn check_and_config_show_the_settings() {
    assert_eq!(
        output(&["check"], &[SITE]).await,
        (Some(0), "settings are fine\n".into(), String::new())
    );
    let (_, stdout, _) = output(&["config"], &[SITE, ("PULSE__INTERVAL", "1s")]).await;
    assert!(
        stdout.contains("pulse.interval = \"1s\"  # PULSE__INTERVAL\n"),
        "{stdout}"
    );
    assert!(stdout.contains("pulse.end = \"stop\"  # default\n"), "{stdout}");
    assert!(
        stdout.contains("pulse.site = \"core\"  # COMMON__SITE\n"),
        "{stdout}"
    );
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().unwrap().to_string();
    assert!(
        std::process::Command::new("kill")
            .args([name, &pid])
            .status()
            .unwrap()
            .success()
    );
}

async fn healthy(environment: &[(&str, &str)]) {
    eventually(LIMIT, || async {
        let (code, stdout, stderr) = output(&["healthcheck"], environment).await;
        if code == Some(0) {
            Ok(())
        } else {
            Err(format!("{stdout}{stderr}"))
        }
    })
    .await;
}

#[tokio::test]
async fn signal_begins_an_orderly_stop() {
    let admin = format!("127.0.0.1:{}", free_port());
    let environment = [SITE, ("PULSE__ADMIN", admin.as_str())];
    assert_eq!(output(&["healthcheck"], &environment).await.0, Some(1));
    assert_eq!(output(&["healthcheck"], &[SITE]).await.0, Some(78));
    let child = pulse(&[], &environment).spawn().unwrap();
    healthy(&environment).await;
    signal(&child, "-TERM");
    let ended = tokio::time::timeout(LIMIT, child.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ended.status.code(), Some(0));
    let lines = String::from_utf8(ended.stdout).unwrap();
    for line in lines.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (&line["site"], &line["service"]),
            (&"core".into(), &"pulse".into()),
            "{lines}"
        );
    }
    assert!(lines.contains("draining") && lines.contains("stopped"), "{lines}");
}

#[tokio::test]
async fn second_signal_ends_at_once() {
    let admin = format!("127.0.0.1:{}", free_port());
    let environment = [SITE, ("PULSE__ADMIN", admin.as_str()), ("PULSE__END", "hang")];
    let mut child = pulse(&[], &environment).spawn().unwrap();
    healthy(&environment).await;
    signal(&child, "-INT");
    eventually(LIMIT, || async {
        let (_, _, stderr) = output(&["healthcheck"], &environment).await;
        if stderr.contains("draining") {
            Ok(())
        } else {
            Err(stderr)
        }
    })
    .await;
    signal(&child, "-INT");
    let ended = tokio::time::timeout(LIMIT, child.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(1));
}
