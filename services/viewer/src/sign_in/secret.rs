//! Random secrets, of which only digests are kept.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// 256 random bits, as text that fits a cookie, a link and a header.
pub(crate) fn make() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// What is kept of a secret. Two of them are compared in the same time whatever they are.
pub(crate) fn digest(secret: &str) -> blake3::Hash {
    blake3::hash(secret.as_bytes())
}
