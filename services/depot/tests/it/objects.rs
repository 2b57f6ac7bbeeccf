use common::chassis::now_ms;
use common::schemas::Desired;
use common::volume::{Chunks, contract};
use testkit::eventually;

use crate::rig::{Caller, LIMIT, Page, Rig, refusal};

async fn page(caller: &Caller, query: &str) -> Page {
    Page::of(caller.get(&format!("manifest?{query}")).send().await.unwrap()).await
}

#[tokio::test]
async fn an_object_goes_to_the_site_that_has_an_open_entry_for_it_and_to_no_other() {
    let rig = Rig::running().await;
    let (one, two) = (rig.enrolled("edge-1").await, rig.enrolled("edge-2").await);
    let bytes = contract::bytes(200_000, 1);
    let stored = rig.store(&bytes).await;
    let other = rig.store(b"another").await;
    let request_id = rig.open("edge-1", 1, &stored, None).await;

    let whole = one.object(&stored.hash, &request_id).send().await.unwrap();
    assert_eq!(whole.status(), 200);
    assert_eq!(whole.headers()["etag"], format!("\"{}\"", stored.hash));
    assert_eq!(whole.bytes().await.unwrap(), bytes);

    let (status, why) = refusal(two.object(&stored.hash, &request_id).send().await.unwrap()).await;
    assert_eq!(
        (status, why),
        (403, format!("edge-2 has no open entry for request {request_id}"))
    );
    let (status, why) = refusal(one.object(&other.hash, &request_id).send().await.unwrap()).await;
    assert_eq!(status, 403);
    assert!(why.contains("is not for object"), "{why}");
    let late = rig.open("edge-1", 2, &stored, Some(now_ms() - 1)).await;
    let (status, why) = refusal(one.object(&stored.hash, &late).send().await.unwrap()).await;
    assert_eq!(
        (status, why),
        (403, format!("the entry for request {late} has expired"))
    );
    for path in [
        "objects/xyz?request=1",
        &format!("objects/{}", stored.hash),
        "manifest?after=../edge-2",
    ] {
        assert_eq!(
            refusal(one.get(path).send().await.unwrap()).await.0,
            400,
            "{path}"
        );
    }
    assert_eq!(refusal(one.get("elsewhere").send().await.unwrap()).await.0, 404);
    rig.stop().await;
}

#[tokio::test]
async fn ranges_and_chunk_lists_are_exact() {
    let rig = Rig::running().await;
    let one = rig.enrolled("edge-1").await;
    let bytes = contract::bytes(200_000, 2);
    let stored = rig.store(&bytes).await;
    let request_id = rig.open("edge-1", 1, &stored, None).await;
    let ranged = async |range: &str| {
        one.object(&stored.hash, &request_id)
            .header("range", range)
            .send()
            .await
            .unwrap()
    };

    let part = ranged("bytes=65536-131071").await;
    assert_eq!(part.status(), 206);
    assert_eq!(part.headers()["content-range"], "bytes 65536-131071/200000");
    assert_eq!(part.bytes().await.unwrap(), bytes[65_536..131_072]);
    assert_eq!(ranged("bytes=-10").await.bytes().await.unwrap(), bytes[199_990..]);
    for impossible in ["bytes=200000-", "bytes=0-1,5-6"] {
        let refused = ranged(impossible).await;
        assert_eq!(refused.headers()["content-range"], "bytes */200000");
        assert_eq!(refusal(refused).await.0, 416);
    }

    let chunks = one
        .get(&format!("objects/{}/chunks?request={request_id}", stored.hash))
        .send()
        .await
        .unwrap();
    let chunks = Chunks::from_bytes(chunks.bytes().await.unwrap()).unwrap();
    chunks.verify(&stored.hash, stored.size).unwrap();
    rig.stop().await;
}

#[tokio::test]
async fn a_manifest_is_the_callers_own_and_comes_in_pages() {
    let rig = Rig::running().await;
    let (one, two) = (rig.enrolled("edge-1").await, rig.enrolled("edge-2").await);
    let stored = rig.store(b"bytes").await;
    let mut wanted = Vec::new();
    for number in 0..7 {
        wanted.push(rig.open("edge-1", number, &stored, None).await);
    }
    wanted.sort();
    rig.open("edge-1", 100, &stored, Some(now_ms() - 1)).await;
    let theirs = rig.open("edge-2", 1, &stored, None).await;
    let mut listed = Vec::new();
    let mut after = String::new();
    loop {
        let page = page(&one, &format!("limit=3&after={after}")).await;
        assert!(page.entries.len() <= 3);
        listed.extend(page.entries.into_iter().map(|entry| entry.request_id));
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(listed, wanted, "each once, none that has expired");
    let page = page(&two, "").await;
    assert_eq!(page.entries.len(), 1);
    assert_eq!(page.entries[0].request_id, theirs);
    rig.stop().await;
}

#[tokio::test]
async fn what_the_core_has_lost_or_damaged_is_told() {
    let rig = Rig::running().await;
    let one = rig.enrolled("edge-1").await;
    let stored = rig.store(&contract::bytes(200_000, 3)).await;
    let request_id = rig.open("edge-1", 1, &stored, None).await;
    let hash = &stored.hash;
    let list = rig
        .dir
        .path()
        .join(format!("volume/objects/{}/{hash}.chunks", &hash.as_str()[..2]));
    let mut damaged = std::fs::read(&list).unwrap();
    damaged[0] ^= 1;
    std::fs::write(&list, damaged).unwrap();
    let chunks = one
        .get(&format!("objects/{hash}/chunks?request={request_id}"))
        .send()
        .await
        .unwrap();
    let (status, why) = refusal(chunks).await;
    assert_eq!(
        (status, why),
        (404, format!("the core's copy of object {hash} is damaged"))
    );
    rig.volume.delete(hash).await.unwrap();
    let (status, why) = refusal(one.object(hash, &request_id).send().await.unwrap()).await;
    assert_eq!((status, why), (404, format!("the core has lost object {hash}")));
    rig.stop().await;
}

#[tokio::test]
async fn a_site_has_so_many_answers_at_once_and_others_have_theirs() {
    let rig = Rig::with(|settings| settings.requests_per_site = 1).await;
    let (one, two) = (rig.enrolled("edge-1").await, rig.enrolled("edge-2").await);
    let stored = rig.store(&contract::bytes(64 << 20, 4)).await;
    let request_id = rig.open("edge-1", 1, &stored, None).await;
    let slow = one.object(&stored.hash, &request_id).send().await.unwrap();
    assert_eq!(slow.status(), 200);
    let (status, why) = refusal(one.get("manifest").send().await.unwrap()).await;
    assert_eq!(
        (status, why),
        (429, "edge-1 has too many requests at once".to_owned())
    );
    assert_eq!(two.get("manifest").send().await.unwrap().status(), 200);
    drop(slow);
    eventually(LIMIT, || async {
        let status = one.get("manifest").send().await.unwrap().status();
        if status == 200 {
            Ok(())
        } else {
            Err(status.to_string())
        }
    })
    .await;
    rig.stop().await;
}

#[tokio::test]
async fn a_paused_depot_takes_no_connections_until_it_runs_again() {
    let rig = Rig::running().await;
    let one = rig.enrolled("edge-1").await;
    let answers = || async {
        one.get("manifest")
            .send()
            .await
            .map(|response| response.status().as_u16())
    };
    assert_eq!(answers().await.unwrap(), 200);
    common::control::ask(&rig.broker, "depot", Desired::Paused, None)
        .await
        .unwrap();
    eventually(LIMIT, || async {
        answers()
            .await
            .map_or(Ok(()), |status| Err(format!("answers {status}")))
    })
    .await;
    common::control::ask(&rig.broker, "depot", Desired::Running, None)
        .await
        .unwrap();
    eventually(LIMIT, || async {
        answers().await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    rig.stop().await;
}
