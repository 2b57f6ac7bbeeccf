//! The demo as a newcomer meets it: it says where to look, and the link signs in.
//!
//! How soon that is, the browser tests measure (`tests/python/browser/test_demo.py`).

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::process::program;
use e2e::site::eventually;
use serde_json::{Value, json};

/// Kills the demo with the test.
pub(crate) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already is as dead as it should be.
        let _killed = self.0.kill();
        let _status = self.0.wait();
    }
}

/// The first of the ports in a row that a demo of one edge takes.
pub(crate) fn free_ports() -> u16 {
    testkit::free_ports(4)
}

/// Starts the demo; returns what it printed once its pages answer.
pub(crate) async fn start(directory: &Path, first: u16, more: &[&str]) -> Result<(Running, Value)> {
    let mut demo = Running(
        Command::new(program("fieldline")?)
            .args(["demo", "--json", "--dir"])
            .arg(directory)
            .args(["--port", &first.to_string()])
            .args(["--depot-port", &(first + 2).to_string()])
            .args(["--feed-port", &(first + 3).to_string()])
            .args(more)
            .stdout(Stdio::piped())
            .spawn()?,
    );
    let output = demo.0.stdout.take().context("no output")?;
    let said = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).map(|_| line)
    });
    let said = tokio::time::timeout(Duration::from_secs(30), said).await???;
    Ok((demo, serde_json::from_str(&said).context("not one line of JSON")?))
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_says_where_its_pages_are_and_its_links_sign_in_once() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let first = free_ports();
    let (_demo, said) = start(directory.path(), first, &[]).await?;
    // A second caller finds the provider installed already, which is as good.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().build()?;
    for (place, name) in [(0, "core"), (1, "edge-1")] {
        let site = &said["sites"][place];
        ensure!(site["site"] == name, "{said}");
        let (url, link) = (
            site["url"].as_str().context("url")?,
            site["link"].as_str().context("link")?,
        );
        let ticket = link
            .strip_prefix(&format!("{url}/#/sign-in/"))
            .context("a link")?;
        let sign_in = || {
            http.post(format!("{url}/api/session"))
                .header("x-fieldline", "1")
                .json(&json!({"ticket": ticket}))
                .send()
        };
        let answer = sign_in().await?.error_for_status()?;
        let cookie = answer.headers()["set-cookie"].to_str()?.split(';').next();
        let cookie = cookie.context("a cookie")?.to_owned();
        let session: Value = answer.json().await?;
        ensure!(
            session["role"] == "operator" && session["site"] == name,
            "{session}"
        );
        ensure!(sign_in().await?.status() == 401);
        let shown = || async {
            let page = http.get(format!("{url}/api/assets")).header("cookie", &cookie);
            let page: Value = page.send().await?.error_for_status()?.json().await?;
            ensure!(page["total"] != 0, "{page}");
            Ok(())
        };
        eventually(Duration::from_secs(30), "the first asset is there", shown).await?;
    }
    Ok(())
}
