//! The ids of the domain, each a type of its own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that is not an id of the kind that was wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {wanted}")]
pub struct IdError {
    text: String,
    wanted: &'static str,
}

fn lower_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

macro_rules! text_id {
    ($(#[$doc:meta])* $type:ident, $valid:expr, $wanted:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The id's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $type {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(IdError { text: text.chars().take(80).collect(), wanted: $wanted })
                }
            }
        }
        impl TryFrom<String> for $type {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(id: $type) -> Self {
                id.0
            }
        }
        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn site_name(text: &str) -> bool {
    text.len() <= 40
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

text_id! {
    /// A place with its own broker, table and volume.
    SiteId, site_name,
    "a site name: at most 40 lower-case letters, digits and dashes, a letter first, no dash last"
}
text_id! {
    /// An asset, the same at every site.
    AssetId, |text| lower_hex(text, 32), "an asset id: 32 lower-case hexadecimal digits"
}
text_id! {
    /// One attempt of one site to get one asset.
    RequestId,
    |text| {
        let mut parts = text.split('.');
        let (site, asset, attempt) = (parts.next(), parts.next(), parts.next());
        parts.next().is_none()
            && site.is_some_and(site_name)
            && asset.is_some_and(|asset| lower_hex(asset, 32))
            && attempt.is_some_and(|attempt| attempt.parse::<i32>().is_ok_and(|n| n > 0 && n.to_string() == attempt))
    },
    "a request id: site, asset id and attempt, joined by dots"
}
text_id! {
    /// The BLAKE3 hash of an asset's bytes.
    Hash, |text| lower_hex(text, 64), "a BLAKE3 hash: 64 lower-case hexadecimal digits"
}

impl AssetId {
    /// Tables spread assets over this many partitions.
    pub const BUCKETS: i32 = 64;

    /// Derives the id from where the asset comes from, so that announcing twice is announcing once.
    pub fn derive(catalogue: &str, native_id: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(catalogue.as_bytes())
            .update(&[0])
            .update(native_id.as_bytes());
        Self(hasher.finalize().to_hex()[..32].to_owned())
    }

    /// The table partition that holds the asset: 0 up to [`Self::BUCKETS`].
    pub fn bucket(&self) -> i32 {
        i32::from_str_radix(&self.0[..2], 16).unwrap_or(0) % Self::BUCKETS
    }
}

impl RequestId {
    /// Names an attempt; attempts count from 1.
    pub fn new(site: &SiteId, asset: &AssetId, attempt: i32) -> Self {
        Self(format!("{site}.{asset}.{attempt}"))
    }
}

impl From<blake3::Hash> for Hash {
    fn from(hash: blake3::Hash) -> Self {
        Self(hash.to_hex().to_string())
    }
}
