//! The files of a directory, with what their sidecars say of them.
//!
//! A sidecar is `<file>.json` or `<file>.toml` beside the file, with `title`, `description` and `credit`, all optional.
//! Hidden files, links and directories below are passed over.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::Deserialize;

use crate::entry::{Entry, Listing};
use crate::error::{Error, Result};
use crate::text::{CREDIT_CHARS, DESCRIPTION_CHARS, TITLE_CHARS, plain};

/// The most files that are announced from one directory.
const MOST: usize = 100_000;
const MAX_SIDECAR: u64 = 64 * 1024;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Sidecar {
    title: Option<String>,
    description: Option<String>,
    credit: Option<String>,
}

/// Lists the directory by name.
pub(super) async fn read(directory: &Path) -> Result<Listing> {
    let failed = |source| Error::Read {
        catalogue: directory.display().to_string(),
        source,
    };
    let mut names = BTreeSet::new();
    let mut listing = Listing::default();
    let mut found = tokio::fs::read_dir(directory).await.map_err(failed)?;
    while let Some(file) = found.next_entry().await.map_err(failed)? {
        match file.file_name().into_string() {
            Ok(name) if servable(&name) && names.len() < MOST => {
                if file.file_type().await.is_ok_and(|kind| kind.is_file()) {
                    names.insert(name);
                }
            }
            Ok(name) if servable(&name) => {
                listing.reject(name, format!("the directory has more than {MOST} files"))
            }
            Ok(_) => {}
            Err(name) => listing.reject(name.to_string_lossy(), "its name is not UTF-8"),
        }
    }
    for name in &names {
        let described = [".json", ".toml"]
            .iter()
            .any(|end| name.strip_suffix(end).is_some_and(|of| names.contains(of)));
        if described {
            continue;
        }
        match entry(directory, name, &names).await {
            Ok(entry) => listing.entries.push(entry),
            Err(reason) => listing.reject(name, reason),
        }
    }
    Ok(listing)
}

/// Whether a name is one that may be served: a single visible component.
pub fn servable(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
}

async fn entry(directory: &Path, name: &str, names: &BTreeSet<String>) -> std::result::Result<Entry, String> {
    let mut sidecar = Sidecar::default();
    let json = format!("{name}.json");
    let toml = format!("{name}.toml");
    if names.contains(&json) {
        let text = small(directory.join(json)).await?;
        sidecar = serde_json::from_str(&text).map_err(|error| format!("its .json: {error}"))?;
    } else if names.contains(&toml) {
        let text = small(directory.join(toml)).await?;
        sidecar = toml::from_str(&text).map_err(|error| format!("its .toml: {}", error.message()))?;
    }
    let metadata = tokio::fs::metadata(directory.join(name))
        .await
        .map_err(|error| error.to_string())?;
    let modified = metadata
        .modified()
        .ok()
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let title = sidecar.title.unwrap_or_else(|| named(name));
    Ok(Entry {
        native_id: name.to_owned(),
        title: plain(&title, TITLE_CHARS),
        description: plain(&sidecar.description.unwrap_or_default(), DESCRIPTION_CHARS),
        link: None,
        credit: sidecar.credit.map(|credit| plain(&credit, CREDIT_CHARS)),
        created_at: modified.and_then(|at| i64::try_from(at.as_millis()).ok()),
    })
}

async fn small(path: PathBuf) -> std::result::Result<String, String> {
    let read = async {
        if tokio::fs::metadata(&path).await?.len() > MAX_SIDECAR {
            return Err(io::Error::other(format!("larger than {MAX_SIDECAR} bytes")));
        }
        tokio::fs::read_to_string(&path).await
    };
    read.await.map_err(|error| format!("its sidecar: {error}"))
}

/// `winter_storm-2.jpg` is titled `winter storm 2`.
fn named(file_name: &str) -> String {
    let stem = file_name.rsplit_once('.').map_or(file_name, |(stem, _)| stem);
    stem.replace(['_', '-'], " ")
}
