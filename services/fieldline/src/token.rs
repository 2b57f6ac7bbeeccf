//! Token files: where they lie, and what they hold.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use url::Url;

/// Its name in a site's own directory.
pub(crate) const FILE: &str = "viewer.token";

/// Reads a token.
pub(crate) fn read(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the token file {}", path.display()))?;
    Ok(text.trim().to_owned())
}

/// The token of a site of this machine, from the places where the demo and an installation keep it.
pub(crate) fn known(site: &str) -> Option<String> {
    let name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !site.bytes().all(name) {
        return None;
    }
    let places = [
        PathBuf::from("data/demo").join(site),
        PathBuf::from("data").join(site),
        PathBuf::from("/var/lib/fieldline").join(site),
        PathBuf::from("/var/lib/fieldline"),
    ];
    places.iter().find_map(|place| read(&place.join(FILE)).ok())
}

/// Whether an address is of this machine.
pub(crate) fn loopback(base: &str) -> bool {
    let url = Url::parse(base).ok();
    match url.as_ref().and_then(Url::host) {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_shown_to_sites_of_this_machine_alone() {
        for own in ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:1"] {
            assert!(loopback(own), "{own}");
        }
        for other in [
            "http://core:8080",
            "http://127.0.0.1.example",
            "http://127.0.0.1@evil.example",
            "nonsense",
        ] {
            assert!(!loopback(other), "{other}");
        }
        assert_eq!(known("../../etc"), None);
    }
}
