//! Many small objects in one answer, and the manifest in few bytes.

use std::io::Read as _;

use common::volume::ManifestEntry;

use crate::rig::{Page, Rig};

fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [kind, a, b, c, d, rest @ ..] = bytes {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        frames.push((*kind, rest[..length].to_vec()));
        bytes = &rest[length..];
    }
    frames
}

#[tokio::test]
async fn small_objects_come_in_one_answer_and_each_refusal_is_its_own() {
    let rig = Rig::running().await;
    let (own, other) = (rig.enrolled("edge-1").await, rig.enrolled("edge-2").await);
    let (small, empty, large) = (
        rig.store(b"small").await,
        rig.store(b"").await,
        rig.store(&[1; 65_537]).await,
    );
    let requests = [
        rig.open("edge-1", 1, &small, None).await,
        rig.open("edge-1", 2, &empty, None).await,
        rig.open("edge-1", 3, &large, None).await,
        rig.open("edge-1", 4, &small, Some(1)).await,
        rig.open("edge-2", 5, &small, None).await,
    ];
    let post = async |caller: &crate::rig::Caller, count: usize| {
        let body = serde_json::json!({ "requests": requests.iter().cycle().take(count).collect::<Vec<_>>() });
        let request = caller
            .http
            .post(format!("{}/v1/batch", caller.base))
            .header("content-type", "application/json");
        request.body(body.to_string()).send().await.unwrap()
    };
    let answer = post(&own, 5).await;
    assert_eq!(answer.status(), 200);
    let found = frames(&answer.bytes().await.unwrap());
    assert_eq!(found[0], (0, b"small".to_vec()));
    assert_eq!(found[1], (0, Vec::new()));
    let reasons: Vec<_> = found[2..]
        .iter()
        .map(|(kind, why)| (*kind, String::from_utf8_lossy(why)))
        .collect();
    assert!(reasons.iter().all(|(kind, _)| *kind == 1), "{reasons:?}");
    for (reason, wanted) in reasons
        .iter()
        .zip(["more than one chunk", "expired", "no open entry"])
    {
        assert!(reason.1.contains(wanted), "{reason:?}");
    }
    let found = frames(&post(&other, 5).await.bytes().await.unwrap());
    let given: Vec<_> = found.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(given, [1, 1, 1, 1, 0], "an entry is one site's only");
    assert_eq!(post(&own, 4097).await.status(), 400);
    rig.stop().await;
}

#[tokio::test]
async fn the_manifest_comes_packed_to_who_takes_it() {
    let rig = Rig::running().await;
    let own = rig.enrolled("edge-1").await;
    for number in 0..150 {
        let stored = rig.store(&[number]).await;
        rig.open("edge-1", u32::from(number), &stored, None).await;
    }
    let plain = own.get("manifest").send().await.unwrap().bytes().await.unwrap();
    let packed = own
        .get("manifest")
        .header("accept-encoding", "gzip")
        .send()
        .await
        .unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    let packed = packed.bytes().await.unwrap();
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&*packed)
        .read_to_end(&mut unpacked)
        .unwrap();
    assert!(
        unpacked == plain && packed.len() * 2 < plain.len(),
        "{} of {}",
        packed.len(),
        plain.len()
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_manifest_that_a_site_knows_is_not_sent_again() {
    let rig = Rig::running().await;
    let own = rig.enrolled("edge-1").await;
    let stored = rig.store(b"small").await;
    let mut seen = [
        rig.open("edge-1", 1, &stored, None).await.to_string(),
        rig.open("edge-1", 2, &stored, None).await.to_string(),
    ];
    seen.sort();
    let known = ManifestEntry::tag(seen.iter().map(String::as_str));
    let ask = async || {
        let asked = own.get("manifest").header("if-none-match", known.as_str());
        asked.send().await.unwrap()
    };
    let answer = ask().await;
    assert_eq!(answer.status(), 304);
    assert!(answer.bytes().await.unwrap().is_empty());
    rig.open("edge-1", 3, &stored, None).await;
    let answer = ask().await;
    assert_eq!(Page::of(answer).await.entries.len(), 3);
}
