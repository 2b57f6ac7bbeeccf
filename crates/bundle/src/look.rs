//! Looking at what is on a stick.

use common::chassis::now_ms;
use common::identity::Trust;
use common::schemas::SiteId;
use common::telemetry::chain;
use serde::Serialize;

use crate::document::{self, Manifest};
use crate::error::Result;
use crate::objects;
use crate::stick::{self, Stick};

/// A bundle on a stick, as anybody may look at it.
#[derive(Debug, Serialize)]
pub struct Look {
    /// From whom the directory says it is.
    pub from: SiteId,
    /// For whom.
    pub to: SiteId,
    /// What is in it, when that can be read.
    pub manifest: Option<Manifest>,
    /// Why it cannot be trusted; nothing when it can, as far as was asked.
    pub problem: Option<String>,
    /// Whether its signature was held against an authority.
    pub verified: bool,
    /// Files that are missing or damaged, where they were looked at.
    pub damaged: Vec<String>,
}

/// Says what is on a stick: whose bundles, whether an authority vouches for them, and with `files` whether their segments
/// are whole.
///
/// # Errors
/// When the stick cannot be read.
pub fn show(stick: &Stick, trust: Option<&Trust>, files: bool) -> Result<Vec<Look>> {
    let mut looks = Vec::new();
    for (from, to) in stick.bundles()? {
        let path = stick.manifest(&from, &to);
        let Some(text) = stick::document(&path)? else {
            continue;
        };
        let opened = match trust {
            Some(trust) => {
                document::open::<Manifest>(&path, &text, trust, now_ms()).map(|opened| opened.document)
            }
            None => {
                document::lines(&path, &text).and_then(|(words, _)| document::parse::<Manifest>(&path, words))
            }
        };
        let (manifest, problem) = match opened {
            Ok(manifest) => (Some(manifest), None),
            Err(error) => (None, Some(chain(&error))),
        };
        let mut damaged = Vec::new();
        for segment in (manifest.iter().filter(|_| files))
            .flat_map(|manifest| &manifest.topics)
            .flat_map(|topic| &topic.parts)
            .flat_map(|part| &part.segments)
        {
            let path = stick.bundle(&from, &to).join(format!("{}.segment", segment.hash));
            damaged.extend(
                stick::whole(&path, segment.bytes, &segment.hash)
                    .err()
                    .map(|error| chain(&error)),
            );
        }
        for entry in manifest
            .iter()
            .filter(|_| files)
            .flat_map(|manifest| &manifest.entries)
        {
            damaged.extend(objects::damage(stick, entry)?);
        }
        looks.push(Look {
            verified: trust.is_some() && problem.is_none(),
            from,
            to,
            manifest,
            problem,
            damaged,
        });
    }
    Ok(looks)
}
