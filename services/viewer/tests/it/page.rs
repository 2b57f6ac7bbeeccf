//! The page's files as a browser asks for them.

use std::collections::BTreeSet;

use reqwest::header::HeaderMap;

use crate::rig::Rig;

/// The first page on the wire.
const MOST: usize = 150 * 1024;

struct Sent {
    status: u16,
    headers: HeaderMap,
    bytes: Vec<u8>,
}

async fn ask(rig: &Rig, path: &str, headers: &[(&str, &str)]) -> Sent {
    let mut request = rig.stranger.get(format!("{}{path}", rig.url));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.unwrap();
    Sent {
        status: answer.status().as_u16(),
        headers: answer.headers().clone(),
        bytes: answer.bytes().await.unwrap().to_vec(),
    }
}

/// What a text of the page names: its own files.
fn named(text: &str, hash: &str, from: &str) -> BTreeSet<String> {
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let words = text
        .split(['"', '\''])
        .filter(|word| word.ends_with(".js") || word.ends_with(".css") || word.ends_with(".svg"));
    let mut found = BTreeSet::new();
    for word in words {
        let path = match word.strip_prefix(&format!("/page/{hash}/")) {
            Some(path) => path.to_owned(),
            None if word.starts_with("./") || word.starts_with("../") => {
                let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
                for part in word.split('/') {
                    match part {
                        "." => {}
                        ".." => drop(parts.pop()),
                        part => parts.push(part),
                    }
                }
                parts.join("/")
            }
            None => continue,
        };
        found.insert(path);
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_page_is_small_on_the_wire_packed_and_kept_under_its_hash() {
    let rig = Rig::edge().await;
    let gzip = ("accept-encoding", "gzip, br");
    let index = ask(&rig, "/", &[gzip]).await;
    assert_eq!(
        (index.status, &index.headers["content-encoding"]),
        (200, &"gzip".parse().unwrap())
    );
    assert_eq!(index.headers["cache-control"], "no-cache");
    let plain = ask(&rig, "/", &[]).await;
    assert!(!plain.headers.contains_key("content-encoding"));
    let text = String::from_utf8(plain.bytes).unwrap();
    let hash = text
        .split("/page/")
        .nth(1)
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    let mut bytes = index.bytes.len();
    let mut waiting: Vec<String> = named(&text, &hash, "").into_iter().collect();
    let mut seen = BTreeSet::new();
    while let Some(path) = waiting.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let full = format!("/page/{hash}/{path}");
        let packed = ask(&rig, &full, &[gzip]).await;
        assert_eq!(packed.status, 200, "{path}");
        assert_eq!(packed.headers["content-encoding"], "gzip", "{path}");
        assert_eq!(
            packed.headers["cache-control"], "public, max-age=31536000, immutable",
            "{path}"
        );
        assert_eq!(packed.headers["vary"], "accept-encoding", "{path}");
        bytes += packed.bytes.len();
        let plain = ask(&rig, &full, &[]).await;
        assert!(
            path.ends_with(".svg") || plain.bytes.len() > packed.bytes.len(),
            "{path}"
        );
        if path.ends_with(".js") {
            let text = String::from_utf8(plain.bytes).unwrap();
            waiting.extend(named(&text, &hash, &path));
        }
        let tag = packed.headers["etag"].to_str().unwrap().to_owned();
        let again = ask(&rig, &full, &[gzip, ("if-none-match", &tag)]).await;
        assert_eq!((again.status, again.bytes.len()), (304, 0), "{path}");
        // A page of another version asks for files that are not here.
        let other = ask(&rig, &format!("/page/0123456789abcdef/{path}"), &[gzip]).await;
        assert_eq!(other.status, 404, "{path}");
    }
    assert!(seen.len() > 12, "{seen:?}");
    assert!(bytes < MOST, "{bytes} bytes");
}
