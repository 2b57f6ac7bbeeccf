//! An edge that is not connected, from its enrolment to its first asset, without a restart; and after one.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::site::{Site, eventually};
use serde_json::{Value, json};

use crate::demo::{Running, free_ports, start};

const LIMIT: Duration = Duration::from_secs(60);

async fn demo(directory: &Path, first: u16) -> Result<(Running, Value)> {
    start(directory, first, &["--not-connected", "edge-1"]).await
}

fn edge(said: &Value, first: u16) -> Result<Site> {
    let token_file = said["sites"][1]["token_file"].as_str().context("no token file")?;
    Site::new("edge-1", first + 1, token_file.into())
}

async fn reaches(edge: &Site, state: &str) -> Result<Value> {
    eventually(LIMIT, &format!("the link is {state}"), || async {
        let link = edge.get("/api/link").await?;
        ensure!(link["state"] == state, "{link}");
        Ok(link)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_is_connected_over_its_api_and_works_without_a_restart() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let first = free_ports();
    let (running, said) = demo(directory.path(), first).await?;
    let edge = edge(&said, first)?;
    let enrolment = said["sites"][1]["enrolment"].as_str().context("no enrolment")?;
    ensure!(said["sites"][0]["enrolment"].is_null(), "{said}");
    let enrolment = std::fs::read_to_string(enrolment)?;

    let link = reaches(&edge, "not_connected").await?;
    ensure!(link["instances"][0]["state"] == "waiting", "{link}");
    ensure!(
        link["why"] == "not connected: give this site its enrolment",
        "{link}"
    );
    let status = edge.get("/api/status").await?;
    ensure!(
        status["problems"][0]["what"]
            .as_str()
            .is_some_and(|what| what.contains("not connected")),
        "{status}"
    );
    ensure!(edge.get("/api/set-up").await?["connected"] == false);
    let wrong = json!({"enrolment": enrolment, "depot_url": "https://127.0.0.1:1"});
    let tested = edge.lines("/api/set-up/test", wrong.clone()).await?;
    ensure!(tested.last() == Some(&json!({"passed": false})), "{tested:?}");
    ensure!(edge.post("/api/set-up/connect", wrong).await.is_err());
    ensure!(edge.assets().await?.is_empty());

    let body = json!({"enrolment": enrolment});
    let tested = edge.lines("/api/set-up/test", body.clone()).await?;
    ensure!(tested.last() == Some(&json!({"passed": true})), "{tested:?}");
    let connected = edge.post("/api/set-up/connect", body).await?;
    ensure!(connected["connected"] == true, "{connected}");
    let asset = eventually(LIMIT, "an asset arrives", || async {
        let assets = edge.assets().await?;
        let asset = assets.first().context("there is none")?;
        Ok(asset["asset_id"].as_str().context("an id")?.to_owned())
    })
    .await?;
    reaches(&edge, "up").await?;

    // The mirror has taken it up as well.
    edge.ask(&asset, "request").await?;
    let is = async |state: &str| {
        eventually(LIMIT, &format!("the asset is {state}"), || async {
            let asset = edge.get(&format!("/api/assets/{asset}")).await?;
            ensure!(asset["state"] == state, "{asset}");
            Ok(())
        })
        .await
    };
    is("ready").await?;
    edge.ask_mirror().await?;
    is("mirrored").await?;

    drop(running);
    let (_running, said) = demo(directory.path(), first).await?;
    let again = self::edge(&said, first)?;
    ensure!(again.get("/api/set-up").await?["connected"] == true);
    reaches(&again, "up").await?;
    Ok(())
}
