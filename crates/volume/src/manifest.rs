//! A manifest entry: the core's word that a site may fetch an object. The manifest of a site is their listing.

use schemas::{AssetId, Hash, RequestId, SiteId};
use serde::{Deserialize, Serialize};

/// One open entry, stored as JSON at [`ManifestEntry::path`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    /// The request it answers.
    pub request_id: RequestId,
    /// The asset that was asked for.
    pub asset_id: AssetId,
    /// The object to fetch.
    pub hash: Hash,
    /// Its size in bytes.
    pub size: u64,
    /// What it is.
    pub media_type: String,
    /// What to call it.
    pub file_name: String,
    /// When the entry was made, in milliseconds since 1970.
    pub entered_at: i64,
    /// From when on it is of no use, in milliseconds since 1970.
    pub expires_at: Option<i64>,
}

/// What stands behind the last entry where a manifest is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEnd {
    /// Behind which request there is more; null at the end of the manifest. What has no such field is no end.
    #[serde(deserialize_with = "Option::deserialize")]
    pub next: Option<String>,
}

impl ManifestEntry {
    /// Where the entries of a site are.
    pub fn prefix(site: &SiteId) -> String {
        format!("mirror/{site}")
    }

    /// Where the entry of a request is.
    pub fn path(site: &SiteId, request_id: &RequestId) -> String {
        format!("mirror/{site}/{request_id}")
    }

    /// What tells one manifest from another: the tag of all the request ids that it lists, in their order.
    pub fn tag<'a>(request_ids: impl IntoIterator<Item = &'a str>) -> String {
        let mut hasher = blake3::Hasher::new();
        for request_id in request_ids {
            hasher.update(request_id.as_bytes());
            hasher.update(b"\n");
        }
        format!("\"{}\"", hasher.finalize().to_hex())
    }

    /// Whether its time is over.
    pub fn expired(&self, now_ms: i64) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now_ms)
    }

    /// As it is stored and sent.
    pub fn to_json(&self) -> Vec<u8> {
        // Strings and numbers alone: there is nothing that could fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// From what was stored or sent. Unknown fields are those of a newer release.
    ///
    /// # Errors
    /// When it is no entry.
    pub fn from_json(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_comes_back_as_it_was_and_ends_when_it_expires() {
        let site: SiteId = "edge-1".parse().unwrap();
        let asset_id = AssetId::derive("c", "1");
        let entry = ManifestEntry {
            request_id: RequestId::new(&site, &asset_id, 1),
            asset_id,
            hash: blake3::hash(b"x").into(),
            size: 1,
            media_type: "text/plain".into(),
            file_name: "x.txt".into(),
            entered_at: 5,
            expires_at: Some(10),
        };
        assert_eq!(ManifestEntry::from_json(&entry.to_json()).unwrap(), entry);
        assert!(entry.expired(10) && !entry.expired(9));
        let path = ManifestEntry::path(&site, &entry.request_id);
        assert!(path.starts_with(&format!("{}/", ManifestEntry::prefix(&site))));
    }
}
