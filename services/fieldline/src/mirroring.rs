//! The mirror's commands, with a progress bar over a long transfer.

use std::time::Duration;

use anyhow::{Result, bail};
use common::schemas::AssetId;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::cli::{Api, Mirror};
use crate::client::Client;
use crate::inspect::order;
use crate::output::{bytes, line, show};

/// How often progress is asked for, on loopback.
const LOOK: Duration = Duration::from_millis(300);

pub(crate) async fn mirror(command: &Mirror) -> Result<()> {
    match command {
        Mirror::Estimate(api) => {
            let answer = Client::new(api)?.get("/api/mirror/estimate").await?;
            show(api.json, &answer, |answer| {
                let size = bytes(answer["bytes"].as_u64().unwrap_or(0));
                let time = answer["seconds"].as_f64().map_or_else(
                    || "time unknown until bytes have moved".to_owned(),
                    |seconds| match answer["rate_from"].as_str() {
                        Some("cap") => format!("{seconds:.0} s at best"),
                        _ => format!("about {seconds:.0} s"),
                    },
                );
                line(format!("{} assets, {size}, {time}", answer["assets"]));
            });
            Ok(())
        }
        Mirror::Start { detach, api } => {
            let client = Client::new(api)?;
            let before = client.get("/api/mirror").await?;
            order(api, "/api/mirror/start", json!({"by": api.by()})).await?;
            if *detach || api.json {
                Ok(())
            } else {
                follow(&client, &before).await
            }
        }
        Mirror::Stop(api) => order(api, "/api/mirror/stop", json!({"by": api.by()})).await,
        Mirror::Status(api) => status(api).await,
        Mirror::Queue { limit, api } => queue(*limit, api).await,
        Mirror::Order { asset, to, api } => {
            let body = match to.parse::<i32>() {
                Ok(priority) => json!({"priority": priority, "by": api.by()}),
                Err(_) => json!({"to": to, "by": api.by()}),
            };
            change(api, asset, "order", body).await
        }
        Mirror::Pin { asset, api } => change(api, asset, "pin", json!({"by": api.by()})).await,
        Mirror::Unpin { asset, api } => change(api, asset, "unpin", json!({"by": api.by()})).await,
        Mirror::Evict { asset, api } => change(api, asset, "evict", json!({"by": api.by()})).await,
    }
}

/// Changes something of one asset, and says what it is now.
async fn change(api: &Api, asset: &AssetId, what: &str, body: Value) -> Result<()> {
    let path = format!("/api/assets/{asset}/{what}");
    let answer = Client::new(api)?.post(&path, body).await?;
    show(api.json, &answer, |answer| {
        let now = match what {
            "order" => format!("has priority {}", answer["priority"]),
            "pin" => "is pinned: the quota never takes its room".to_owned(),
            "unpin" => "is not pinned".to_owned(),
            _ => format!(
                "is evicted, {} are free",
                bytes(answer["freed_bytes"].as_u64().unwrap_or(0))
            ),
        };
        line(format!("{asset} {now}"));
    });
    Ok(())
}

async fn queue(limit: usize, api: &Api) -> Result<()> {
    let path = format!("/api/mirror/queue?limit={limit}");
    let answer = Client::new(api)?.get(&path).await?;
    show(api.json, &answer, |answer| {
        for one in answer["queue"].as_array().into_iter().flatten() {
            line(format!(
                "{}  {:>10}  priority {:>3}  behind {:>10}  {}",
                one["asset_id"].as_str().unwrap_or_default(),
                bytes(one["size"].as_u64().unwrap_or(0)),
                one["priority"],
                bytes(one["bytes_before"].as_u64().unwrap_or(0)),
                one["title"].as_str().unwrap_or_default()
            ));
        }
        let all = bytes(answer["bytes"].as_u64().unwrap_or(0));
        line(format!("{} assets, {all}", answer["total"]));
    });
    Ok(())
}

fn part(state: &Value, which: &str, what: &str) -> u64 {
    state[which][what].as_u64().unwrap_or(0)
}

async fn status(api: &Api) -> Result<()> {
    let answer = Client::new(api)?.get("/api/mirror").await?;
    show(api.json, &answer, |answer| {
        for which in ["ready", "mirrored"] {
            line(format!(
                "{which}: {} assets, {}",
                part(answer, which, "assets"),
                bytes(part(answer, which, "bytes"))
            ));
        }
        line(format!(
            "desired: {}",
            answer["desired"].as_str().unwrap_or("paused")
        ));
    });
    Ok(())
}

/// Shows the progress until the mirror has nothing left to do; Ctrl-C ends only the showing.
async fn follow(client: &Client, before: &Value) -> Result<()> {
    let total = part(before, "ready", "bytes");
    let had = part(before, "mirrored", "bytes");
    let bar = ProgressBar::new(total).with_style(
        ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    loop {
        tokio::time::sleep(LOOK).await;
        let state = client.get("/api/mirror").await?;
        bar.set_position(part(&state, "mirrored", "bytes").saturating_sub(had).min(total));
        bar.set_message(format!("{} assets left", part(&state, "ready", "assets")));
        let trouble = state["instances"]
            .as_array()
            .into_iter()
            .flatten()
            .find_map(|instance| {
                (instance["state"] == "waiting")
                    .then(|| instance["detail"].as_str().unwrap_or_default().to_owned())
            });
        if let Some(trouble) = trouble {
            bar.set_message(trouble);
        }
        if state["desired"] == "paused" {
            bar.finish();
            let left = part(&state, "ready", "assets");
            if left > 0 {
                bail!("the mirror stopped with {left} assets left; `fieldline status` says why");
            }
            line(format!("{} assets are here", part(&state, "mirrored", "assets")));
            return Ok(());
        }
    }
}
