//! The main job, from announcement to delivery, and what must be true of it at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::catalogue::Catalogue;
use crate::installation::Installation;
use crate::site::{Site, eventually};

/// How many assets each edge asks for.
pub const REQUESTS: usize = 20;

/// Waits until the core has tried every entry and both edges know all that could be had.
///
/// # Errors
/// When that has not happened within the limit; the error says what is missing.
pub async fn all_is_known(installation: &Installation, catalogue: &Catalogue, limit: Duration) -> Result<()> {
    let wanted = catalogue.pictures.len();
    eventually(limit, "the core has tried every entry", || async {
        let pipeline = pipeline(&installation.core).await?;
        let count = |state: &str| pipeline.values().filter(|asset| asset["state"] == state).count();
        let (broadcast, failed) = (count("broadcast"), count("failed"));
        ensure!(
            broadcast == wanted && failed == catalogue.entries - wanted,
            "{broadcast} of {wanted} broadcast, {failed} of {} failed; {:?}",
            catalogue.entries - wanted,
            states(&pipeline)
        );
        for asset in pipeline.values().filter(|asset| asset["state"] == "failed") {
            let reason = asset["reason"].as_str().unwrap_or_default();
            ensure!(
                reason.contains("404"),
                "an asset failed with the reason {reason:?}"
            );
        }
        Ok(())
    })
    .await?;
    for edge in &installation.edges {
        eventually(limit, "the edge knows every asset", || async {
            let known = edge.assets().await?;
            ensure!(
                known.len() == wanted,
                "{} knows {} of {wanted}",
                edge.name,
                known.len()
            );
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// How many assets are in which state.
fn states(pipeline: &BTreeMap<String, Value>) -> BTreeMap<&str, usize> {
    let states = pipeline
        .values()
        .map(|asset| asset["state"].as_str().unwrap_or("?"));
    let mut counts = BTreeMap::new();
    for state in states {
        *counts.entry(state).or_default() += 1;
    }
    counts
}

/// The newest record of each asset in the core's pipeline.
///
/// # Errors
/// When the core does not answer.
pub async fn pipeline(core: &Site) -> Result<BTreeMap<String, Value>> {
    let mut newest = BTreeMap::new();
    let text = core
        .text("/api/topics/asset-pipeline/records?from=beginning")
        .await?;
    for line in text.lines() {
        let record: Value = serde_json::from_str(line)?;
        let value = &record["value"];
        newest.insert(
            value["asset_id"]
                .as_str()
                .context("a record without asset_id")?
                .to_owned(),
            value.clone(),
        );
    }
    Ok(newest)
}

/// Each edge asks for its share of assets; returns what each asked for.
///
/// # Errors
/// When an edge does not take a request.
pub async fn request(installation: &Installation) -> Result<Vec<Vec<String>>> {
    let mut asked = Vec::new();
    for (number, edge) in installation.edges.iter().enumerate() {
        let mut ids: Vec<String> = edge
            .assets()
            .await?
            .iter()
            .filter_map(|asset| asset["asset_id"].as_str().map(str::to_owned))
            .collect();
        ids.sort();
        // The shares overlap by half, so that some assets go to both edges.
        let share: Vec<String> = ids
            .into_iter()
            .skip(number * REQUESTS / 2)
            .take(REQUESTS)
            .collect();
        for id in &share {
            edge.ask(id, "request").await?;
        }
        asked.push(share);
    }
    Ok(asked)
}

/// Waits until each edge has an answer for all that it asked, and none was refused.
///
/// # Errors
/// When an answer is missing after the limit.
pub async fn answered(installation: &Installation, asked: &[Vec<String>], limit: Duration) -> Result<()> {
    for (edge, share) in installation.edges.iter().zip(asked) {
        reach(edge, share, &["ready", "mirrored"], limit).await?;
    }
    Ok(())
}

async fn reach(edge: &Site, share: &[String], states: &[&str], limit: Duration) -> Result<()> {
    eventually(
        limit,
        &format!("{} of {} are {}", share.len(), edge.name, states.join(" or ")),
        || async {
            let known: BTreeMap<String, Value> = edge
                .assets()
                .await?
                .into_iter()
                .filter_map(|asset| Some((asset["asset_id"].as_str()?.to_owned(), asset)))
                .collect();
            let mut others = BTreeMap::<String, usize>::new();
            for id in share {
                let state = known
                    .get(id)
                    .and_then(|asset| asset["state"].as_str())
                    .unwrap_or("unknown");
                if !states.contains(&state) {
                    *others.entry(state.to_owned()).or_default() += 1;
                }
            }
            ensure!(others.is_empty(), "still otherwise: {others:?}");
            Ok(())
        },
    )
    .await
}

/// Gives the mirror command at each edge, and waits until all is there and the core knows it.
///
/// # Errors
/// When a file or its receipt is missing after the limit.
pub async fn mirror(installation: &Installation, asked: &[Vec<String>], limit: Duration) -> Result<()> {
    for (edge, share) in installation.edges.iter().zip(asked) {
        // A command to a mirror that just died is in the control topic all the same.
        edge.ask_mirror().await?;
        reach(edge, share, &["mirrored"], limit).await?;
        eventually(
            limit,
            &format!("the core shows what {} got", edge.name),
            || async {
                let delivered = delivered(&installation.core, &edge.name).await?;
                let missing: Vec<&String> = share.iter().filter(|id| !delivered.contains(*id)).collect();
                ensure!(
                    missing.is_empty(),
                    "{} of {} are not delivered yet",
                    missing.len(),
                    share.len()
                );
                Ok(())
            },
        )
        .await?;
    }
    Ok(())
}

async fn delivered(core: &Site, edge: &str) -> Result<BTreeSet<String>> {
    let answer = core.get(&format!("/api/requests?site={edge}")).await?;
    let requests = answer["requests"].as_array().context("no list of requests")?;
    Ok(requests
        .iter()
        .filter(|request| !request["delivered_at"].is_null())
        .filter_map(|request| request["asset_id"].as_str().map(str::to_owned))
        .collect())
}

/// What must be true when nothing is under way: the files are byte-identical, there is one row for each request and no
/// open entry, and no volume holds a file that is not what its name says.
///
/// # Errors
/// With the first thing that is not true.
pub async fn all_is_right(
    installation: &Installation,
    catalogue: &Catalogue,
    asked: &[Vec<String>],
) -> Result<()> {
    let pipeline = pipeline(&installation.core).await?;
    let originals: BTreeSet<String> = catalogue
        .pictures
        .values()
        .map(|bytes| blake3::hash(bytes).to_hex().to_string())
        .collect();
    for ((edge, volume), share) in installation
        .edges
        .iter()
        .zip(&installation.edge_volumes)
        .zip(asked)
    {
        let held = objects(volume)?;
        for id in share {
            let hash = pipeline[id]["hash"]
                .as_str()
                .context("a delivered asset without a hash")?;
            ensure!(held.contains(hash), "{} lacks the bytes of {id}", edge.name);
            ensure!(
                originals.contains(hash),
                "{id} is none of the catalogue's pictures"
            );
        }
        ensure!(
            held.len() <= share.len(),
            "{} holds {} files for {} requests",
            edge.name,
            held.len(),
            share.len()
        );
        let answer = installation
            .core
            .get(&format!("/api/requests?site={}", edge.name))
            .await?;
        let requests = answer["requests"].as_array().context("no list of requests")?;
        let ids: BTreeSet<&str> = requests
            .iter()
            .filter_map(|request| request["request_id"].as_str())
            .collect();
        ensure!(
            requests.len() == share.len() && ids.len() == share.len(),
            "the core has {} rows of {} requests for the {} of {}",
            requests.len(),
            ids.len(),
            share.len(),
            edge.name
        );
        let entries = installation.core_volume.join("mirror").join(&edge.name);
        let open = std::fs::read_dir(&entries).map(Iterator::count).unwrap_or(0);
        ensure!(
            open == 0,
            "{open} manifest entries of {} are still open",
            edge.name
        );
    }
    Ok(())
}

/// The hashes of the objects in a volume, each of which is what its name says.
///
/// # Errors
/// When one is not.
pub fn objects(volume: &Path) -> Result<BTreeSet<String>> {
    let mut hashes = BTreeSet::new();
    let Ok(directories) = std::fs::read_dir(volume.join("objects")) else {
        return Ok(hashes);
    };
    for directory in directories {
        for file in std::fs::read_dir(directory?.path())? {
            let path = file?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if name.len() != 64 {
                continue;
            }
            let found = blake3::hash(&std::fs::read(&path)?).to_hex().to_string();
            if found != name {
                bail!(
                    "{} holds other bytes than its name says: a partial file is visible",
                    path.display()
                );
            }
            hashes.insert(name);
        }
    }
    Ok(hashes)
}
