//! Taking in the bundles on a stick that are for this site.
//!
//! Before anything is written, a bundle's manifest is verified: signed by the site it names, with a certificate of the
//! authority, for this site. Records come first, then assets, and last a receipt is left on the stick.

use std::collections::HashSet;
use std::time::Duration;

use common::broker::Lease;
use common::schemas::{self, AssetReceipt, RequestId, SiteId, topic};
use common::telemetry::chain;
use mirror::Book;
use serde::Serialize;

use crate::carry::Carry;
use crate::document::{Manifest, Opened};
use crate::error::{Error, Result};
use crate::here::{Here, Shown};
use crate::objects;
use crate::stick::Stick;

/// How long the link may take to give up its lease: longer than that of a link that died.
const PATIENCE: Duration = Duration::from_secs(10);

/// How to import.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish {
    /// Records that no stick brings any more are written down as lost, and what follows is taken in.
    pub accept_loss: bool,
}

/// What became of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Who made it.
    pub from: SiteId,
    /// When, in milliseconds since 1970.
    pub created_at: i64,
    /// Whether all that there was is in it.
    pub whole: bool,
    /// Records that were taken in.
    pub records: u64,
    /// Records that were here already.
    pub known: u64,
    /// Records that are lost, and were accepted as that.
    pub lost: u64,
    /// Records that the broker here refuses; they are among the dead letters.
    pub refused: u64,
    /// Assets that were delivered.
    pub assets: u64,
    /// Assets that were here already, or that nobody wants any more.
    pub assets_known: u64,
    /// Whether the stick now says how far this site has come.
    pub receipt_left: bool,
    /// What comes by another way, in an operator's words.
    pub notes: Vec<String>,
    /// What could not be taken in, in an operator's words.
    pub problems: Vec<String>,
}

/// Takes in all bundles for this site.
///
/// # Errors
/// When there is none, or one of them cannot be trusted. What is wrong with a part of a bundle is said in the result, and
/// the other parts are taken in.
pub async fn import(here: &Here, stick: &mut Stick, wish: Wish, shown: Shown<'_>) -> Result<Vec<Imported>> {
    let all = stick.bundles()?;
    let mut opened = Vec::new();
    for (from, _) in all.iter().filter(|(_, to)| *to == here.site) {
        let path = stick.manifest(from, &here.site);
        let Some(found) = here.read::<Manifest>(&path)? else {
            continue;
        };
        let manifest = &found.document;
        if manifest.to != here.site || manifest.from != *from {
            let why = format!("it is from {} for {}", manifest.from, manifest.to);
            return Err(Error::document(&path, why));
        }
        if manifest.direction == here.outgoing(from) {
            let why = format!(
                "its records go {}, from which {} gets them",
                manifest.direction, here.site
            );
            return Err(Error::document(&path, why));
        }
        here.admit(from, Some(&found.vouched)).await?;
        opened.push(found);
    }
    if opened.is_empty() {
        return Err(Error::Nothing {
            path: stick.root().to_owned(),
            site: here.site.clone(),
            found: all
                .iter()
                .map(|(from, to)| format!("one from {from} for {to}"))
                .collect(),
        });
    }
    let mut imported = Vec::new();
    for bundle in opened {
        imported.push(Box::pin(take_in(here, stick, bundle, wish, shown)).await?);
    }
    Ok(imported)
}

async fn take_in(
    here: &Here,
    stick: &mut Stick,
    bundle: Opened<Manifest>,
    wish: Wish,
    shown: Shown<'_>,
) -> Result<Imported> {
    let manifest = bundle.document;
    let from = manifest.from.clone();
    let mut imported = Imported {
        from: from.clone(),
        created_at: manifest.created_at,
        whole: manifest.whole,
        records: 0,
        known: 0,
        lost: 0,
        refused: 0,
        assets: 0,
        assets_known: 0,
        receipt_left: true,
        notes: Vec::new(),
        problems: Vec::new(),
    };
    let lease = lease(here, &from).await?;
    let work = async {
        let mut carry = Carry::open(here, &manifest, stick.bundle(&from, &here.site), wish).await?;
        Box::pin(carry.all(&mut imported, shown)).await?;
        if here.edge_of(&from) {
            assets(here, stick, &manifest, &mut imported, shown).await?;
        }
        Ok::<_, Error>(())
    };
    match &lease {
        Some(lease) => tokio::select! {
            done = work => done?,
            () = lease.lost() => return Err(Error::LinkAtWork),
        },
        None => work.await?,
    }
    if let Some(lease) = lease {
        lease.release().await;
    }
    // A stick that cannot be written to brings its records all the same; the sender only cannot know of it.
    if let Err(error) = here.leave_receipt(stick, &from).await {
        tracing::warn!(error = chain(&error), "no receipt is left on the stick");
        imported.receipt_left = false;
    }
    Ok(imported)
}

/// At an edge the link is kept from beginning meanwhile, and said to be at work when it is. At the core the transactional
/// ids alone keep it away: it runs elsewhere.
async fn lease(here: &Here, from: &SiteId) -> Result<Option<Lease>> {
    let checkpoints = here.checkpoints(from);
    if !here.edge_of(from) || here.broker.describe(&checkpoints).await?.is_none() {
        return Ok(None);
    }
    let lease = here
        .broker
        .lease(&checkpoints, &format!("{}.link", here.site))
        .await?;
    match tokio::time::timeout(PATIENCE, lease.acquired()).await {
        Ok(()) => Ok(Some(lease)),
        Err(_) => Err(Error::LinkAtWork),
    }
}

/// What the mirror would have done.
async fn assets(
    here: &Here,
    stick: &Stick,
    manifest: &Manifest,
    imported: &mut Imported,
    shown: Shown<'_>,
) -> Result<()> {
    if manifest.entries.is_empty() {
        return Ok(());
    }
    let receipts = receipts(here).await?;
    let book = Book::new(here.table.clone(), here.broker.producer()?);
    let mut used = match here.quota {
        Some(_) => here.volume.usage().await?.bytes,
        None => 0,
    };
    for entry in &manifest.entries {
        let there = here.volume.stat(&entry.hash).await? == Some(entry.size);
        // The receipt is the last that an arrival leaves behind: with it, all is done.
        let done = there && receipts.contains(&entry.request_id);
        if done
            || entry.expired(common::chassis::now_ms())
            || !book.wants(entry).await.map_err(Error::arrival)?
        {
            imported.assets_known += 1;
            continue;
        }
        let name = format!("asset {} ({})", entry.asset_id, entry.file_name);
        if let Some(quota) = here
            .quota
            .filter(|quota| !there && used.saturating_add(entry.size) > *quota)
        {
            let problem = format!("{name}: the quota of the volume, {quota} bytes, has no room for it");
            imported.problems.push(problem);
            continue;
        }
        match objects::copy_in(&here.volume, stick, entry, shown).await {
            Ok(()) => {}
            Err(error @ (Error::Document { .. } | Error::Stick { .. })) => {
                imported.problems.push(format!("{name}: {}", chain(&error)));
                continue;
            }
            Err(error) => return Err(error),
        }
        if !there {
            used += entry.size;
        }
        book.arrived(entry).await.map_err(Error::arrival)?;
        imported.assets += 1;
    }
    Ok(())
}

/// The requests that receipts were sent for.
async fn receipts(here: &Here) -> Result<HashSet<RequestId>> {
    let mut found = HashSet::new();
    let read = here.broker.read_to_end(topic::ASSET_RECEIPT, |record| {
        let receipt = record.value.as_deref().map(schemas::decode::<AssetReceipt>);
        found.extend(
            receipt
                .and_then(|receipt| receipt.ok())
                .map(|receipt| receipt.request_id),
        );
    });
    read.await?;
    Ok(found)
}
