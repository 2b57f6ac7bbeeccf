//! The files of TLS towards the core: whether they have changed, and what is wrong with this site's own certificate.
//!
//! New connections read the files anew. Open ones go on with what they began with, so when the files change, all are
//! ended and others opened.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use common::broker;
use common::chassis::now_ms;
use common::identity;

use crate::settings::Settings;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// What stands in every status where certificates are not checked.
const UNVERIFIED: &str = "whoever answers is taken for the core's broker: core.tls.unverified is set, and nothing that crosses is secret";

/// The same of this site's own broker.
const UNVERIFIED_HERE: &str = "whoever answers is taken for this site's broker: broker.tls.unverified is set, and nothing that crosses is secret";

/// What of `link`'s brokers is not checked.
pub(crate) fn unverified(settings: &Settings) -> impl Iterator<Item = &'static str> {
    let core = settings.core.tls.unverified.then_some(UNVERIFIED);
    let own = settings.broker.tls.unverified.then_some(UNVERIFIED_HERE);
    core.into_iter().chain(own)
}

/// When each file was written, and how large it is.
pub(crate) type Stamp = Vec<Option<(SystemTime, u64)>>;

fn files(tls: &broker::Tls) -> Vec<PathBuf> {
    let files = [&tls.ca, &tls.certificate, &tls.key];
    files.into_iter().flatten().cloned().collect()
}

/// The files as they are.
pub(crate) async fn stamp(tls: &broker::Tls) -> Stamp {
    let files = files(tls);
    let look = move || {
        let of = |file: &PathBuf| {
            let found = std::fs::metadata(file).ok()?;
            Some((found.modified().ok()?, found.len()))
        };
        files.iter().map(of).collect()
    };
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}

/// Waits until the files are others, and are all there.
pub(crate) async fn changed(tls: &broker::Tls, known: &Stamp) {
    if files(tls).is_empty() {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(LOOK).await;
        let now = stamp(tls).await;
        // Certificate and key are replaced one after the other: once more, and they are still the same.
        if now != *known && now.iter().all(Option::is_some) {
            tokio::time::sleep(LOOK / 5).await;
            if stamp(tls).await == now {
                return;
            }
        }
    }
}

/// What is wrong with this site's own certificate, as far as that can be seen here.
pub(crate) fn trouble(tls: &broker::Tls) -> Option<String> {
    let file = tls.certificate.as_ref()?;
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            return Some(format!(
                "this site's certificate {} cannot be read: {error}",
                file.display()
            ));
        }
    };
    let now = now_ms();
    let shown = file.display();
    match identity::details(&text) {
        Err(error) => Some(format!("this site's certificate {shown} is none: {error}")),
        Ok(details) if details.not_after < now => {
            Some(format!("this site's certificate {shown} has expired"))
        }
        Ok(details) if details.not_before > now => Some(format!(
            "this site's certificate {shown} is not valid yet: is the clock right?"
        )),
        Ok(_) => None,
    }
}

/// An error with what is wrong with this site's own certificate, where TLS may be what it is about.
pub(crate) fn named(tls: &broker::Tls, text: String) -> String {
    let about_tls = ["certificate", "handshake", "ended"]
        .iter()
        .any(|word| text.contains(word));
    match trouble(tls).filter(|_| about_tls) {
        Some(trouble) => format!("{trouble}; {text}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn replaced_files_are_noticed_and_what_is_no_certificate_is_named() {
        let directory = testkit::temp_dir();
        let file = |name: &str| Some(directory.path().join(name));
        let tls = broker::Tls {
            certificate: file("own.crt"),
            key: file("own.key"),
            ..broker::Tls::default()
        };
        assert!(trouble(&tls).unwrap().contains("cannot be read"));
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        write("own.crt", "nothing");
        assert!(trouble(&tls).unwrap().contains("own.crt is none"));
        let before = stamp(&tls).await;
        tokio::time::pause();
        let waiting = changed(&tls, &before);
        tokio::pin!(waiting);
        let soon = LOOK * 4;
        assert!(
            tokio::time::timeout(soon, &mut waiting).await.is_err(),
            "nothing changed"
        );
        write("own.crt", "something else");
        assert!(
            tokio::time::timeout(soon, &mut waiting).await.is_err(),
            "the key is missing"
        );
        write("own.key", "its key");
        waiting.await;
    }
}
