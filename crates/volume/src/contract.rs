//! What every volume must do, the same for a directory and a bucket. Each rule panics when it is broken.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a broken rule is told by a panic"
)]

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use schemas::Hash;

use crate::{CHUNK, Chunks, Error, Stored, Volume};

/// The sizes at which something changes: chunk boundaries, and a size of several uploads.
pub const SIZES: [usize; 7] = [0, 1, 65_535, 65_536, 65_537, 1 << 20, 10 << 20];

/// Bytes that are the same for the same seed.
pub fn bytes(size: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

async fn store(volume: &Volume, bytes: &[u8]) -> Stored {
    let mut writer = volume.writer().await.unwrap();
    for piece in bytes.chunks(100_000) {
        writer.write(piece).await.unwrap();
    }
    writer.finish().await.unwrap()
}

async fn whole(volume: &Volume, hash: &Hash, size: u64) -> Vec<u8> {
    let pieces: Vec<Bytes> = volume
        .stream(hash, 0..size)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    pieces.concat()
}

/// Every rule, one after the other; `seed` makes the objects this run's own.
pub async fn all(volume: &Volume, seed: u64) {
    volume.ping().await.unwrap();
    what_was_written_is_read(volume, seed).await;
    ranges_are_exact(volume, seed).await;
    unfinished_bytes_are_never_seen(volume, seed).await;
    copies_take_only_the_right_chunks(volume, seed).await;
    copies_go_on_where_they_stopped(volume, seed).await;
    deleted_is_gone(volume, seed).await;
    entries_are_created_once(volume, seed).await;
    entries_are_listed_in_order_by_pages(volume, seed).await;
}

/// An object is its bytes, whatever its size, and comes with a list that proves itself; storing again changes nothing.
pub async fn what_was_written_is_read(volume: &Volume, seed: u64) {
    for size in SIZES {
        let bytes = bytes(size, seed);
        let stored = store(volume, &bytes).await;
        assert_eq!(stored.hash, Hash::from(blake3::hash(&bytes)));
        assert_eq!(stored.size, size as u64);
        assert_eq!(store(volume, &bytes).await, stored);
        assert_eq!(volume.stat(&stored.hash).await.unwrap(), Some(stored.size));
        assert!(
            whole(volume, &stored.hash, stored.size).await == bytes,
            "size {size}"
        );
        let chunks = volume.chunks(&stored.hash).await.unwrap().unwrap();
        chunks.verify(&stored.hash, stored.size).unwrap();
    }
}

/// A range has exactly its bytes; one that the object has not is an error, never fewer bytes.
pub async fn ranges_are_exact(volume: &Volume, seed: u64) {
    let bytes = bytes(300_000, seed);
    let hash = store(volume, &bytes).await.hash;
    for range in [0..1, 299_999..300_000, 65_536..131_072, 10..10, 1..300_000] {
        let wanted = &bytes[range.start..range.end];
        let range = range.start as u64..range.end as u64;
        assert_eq!(volume.read(&hash, range.clone()).await.unwrap(), wanted);
        let pieces: Vec<Bytes> = volume
            .stream(&hash, range)
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        assert_eq!(pieces.concat(), wanted);
    }
    for range in [0..300_001, 300_000..300_001, 0..9_000_000] {
        assert!(matches!(
            volume.read(&hash, range).await,
            Err(Error::Range { .. })
        ));
    }
    assert!(matches!(
        volume.stream(&hash, 0..300_001).await.err(),
        Some(Error::Range { .. })
    ));
    let none = Hash::from(blake3::hash(b"nobody wrote this"));
    assert!(matches!(
        volume.read(&none, 0..1).await,
        Err(Error::Missing { .. })
    ));
    assert!(matches!(
        volume.stream(&none, 0..1).await.err(),
        Some(Error::Missing { .. })
    ));
    assert!(volume.chunks(&none).await.unwrap().is_none());
}

/// A writer that is dropped leaves no object.
pub async fn unfinished_bytes_are_never_seen(volume: &Volume, seed: u64) {
    let bytes = bytes(400_000, seed.wrapping_add(1));
    let mut writer = volume.writer().await.unwrap();
    writer.write(&bytes).await.unwrap();
    assert_eq!(writer.len(), 400_000);
    drop(writer);
    assert_eq!(
        volume.stat(&Hash::from(blake3::hash(&bytes))).await.unwrap(),
        None
    );
}

async fn source(volume: &Volume, bytes: &[u8]) -> (Hash, u64, Chunks) {
    let stored = store(volume, bytes).await;
    let chunks = volume.chunks(&stored.hash).await.unwrap().unwrap();
    volume.delete(&stored.hash).await.unwrap();
    (stored.hash, stored.size, chunks)
}

fn piece(bytes: &[u8], range: std::ops::Range<u64>) -> &[u8] {
    &bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]
}

/// A chunk that is not the object's is refused and leaves the copy as it was; a list of another object opens none.
pub async fn copies_take_only_the_right_chunks(volume: &Volume, seed: u64) {
    for size in SIZES {
        let bytes = bytes(size, seed.wrapping_add(2));
        let (hash, size, chunks) = source(volume, &bytes).await;
        let mut copy = volume.partial(&hash, size, chunks).await.unwrap();
        while let Some(range) = copy.next_chunk() {
            let right = piece(&bytes, range);
            let mut wrong = right.to_vec();
            wrong[0] ^= 1;
            assert!(matches!(copy.append(&wrong).await, Err(Error::Corrupt { .. })));
            assert!(matches!(
                copy.append(&right[1..]).await,
                Err(Error::Corrupt { .. })
            ));
            copy.append(right).await.unwrap();
        }
        assert_eq!(
            volume.stat(&hash).await.unwrap(),
            None,
            "nothing is seen before it is published"
        );
        copy.publish().await.unwrap();
        assert!(whole(volume, &hash, size).await == bytes);
        assert!(volume.chunks(&hash).await.unwrap().is_some());
    }
    let (_, _, other) = source(volume, &bytes(200_000, seed.wrapping_add(3))).await;
    let bytes = bytes(200_000, seed.wrapping_add(4));
    let refused = volume
        .partial(&Hash::from(blake3::hash(&bytes)), 200_000, other)
        .await;
    assert!(matches!(refused, Err(Error::Corrupt { .. })));
}

/// A copy that is opened again has what it had; it cannot be published before it is whole, and has one writer.
pub async fn copies_go_on_where_they_stopped(volume: &Volume, seed: u64) {
    let bytes = bytes(300_000, seed.wrapping_add(5));
    let (hash, size, chunks) = source(volume, &bytes).await;
    let open = || volume.partial(&hash, size, chunks.clone());
    let mut copy = open().await.unwrap();
    for _ in 0..2 {
        let range = copy.next_chunk().unwrap();
        copy.append(piece(&bytes, range)).await.unwrap();
    }
    assert!(matches!(open().await, Err(Error::Busy { .. })));
    assert!(matches!(copy.publish().await, Err(Error::Corrupt { .. })));
    let mut copy = open().await.unwrap();
    assert_eq!(copy.verified(), 2 * CHUNK);
    while let Some(range) = copy.next_chunk() {
        copy.append(piece(&bytes, range)).await.unwrap();
    }
    copy.publish().await.unwrap();
    assert!(whole(volume, &hash, size).await == bytes);

    volume.delete(&hash).await.unwrap();
    let mut copy = open().await.unwrap();
    assert_eq!(
        copy.verified(),
        0,
        "what was published is no partial copy any more"
    );
    let range = copy.next_chunk().unwrap();
    copy.append(piece(&bytes, range)).await.unwrap();
    drop(copy);
    volume.forget(&hash).await.unwrap();
    assert_eq!(open().await.unwrap().verified(), 0);
    volume.forget(&hash).await.unwrap();
}

/// Deleting twice is deleting once.
pub async fn deleted_is_gone(volume: &Volume, seed: u64) {
    let bytes = bytes(100_000, seed.wrapping_add(6));
    let hash = store(volume, &bytes).await.hash;
    for _ in 0..2 {
        volume.delete(&hash).await.unwrap();
        assert_eq!(volume.stat(&hash).await.unwrap(), None);
        assert!(volume.chunks(&hash).await.unwrap().is_none());
    }
}

/// Of all who create an entry at once, one does, and it stays what that one wrote.
pub async fn entries_are_created_once(volume: &Volume, seed: u64) {
    let path = format!("mirror/contract-{seed}-once/x.1");
    assert_eq!(volume.get_entry(&path).await.unwrap(), None);
    let creators = (0..8u8).map(|number| volume.put_entry(&path, Bytes::from(vec![number; 10])));
    let created = futures_util::future::try_join_all(creators).await.unwrap();
    assert_eq!(created.iter().filter(|created| **created).count(), 1);
    let winner = created.iter().position(|created| *created).unwrap();
    assert_eq!(
        volume.get_entry(&path).await.unwrap().unwrap(),
        vec![u8::try_from(winner).unwrap(); 10]
    );
    for _ in 0..2 {
        volume.delete_entry(&path).await.unwrap();
        assert_eq!(volume.get_entry(&path).await.unwrap(), None);
    }
    assert!(
        volume
            .put_entry(&path, Bytes::from_static(b"again"))
            .await
            .unwrap()
    );
    for path in ["../x", "/x", "objects/aa/bb", "a//b"] {
        assert!(matches!(
            volume.put_entry(path, Bytes::new()).await,
            Err(Error::Path { .. })
        ));
        assert!(matches!(volume.get_entry(path).await, Err(Error::Path { .. })));
    }
}

/// Pages are in order, without gap or repetition, and hold nothing of a neighbour whose name begins the same.
pub async fn entries_are_listed_in_order_by_pages(volume: &Volume, seed: u64) {
    let prefix = format!("mirror/contract-{seed}");
    let mut wanted: Vec<String> = (0..23)
        .map(|number| format!("{prefix}/asset.{number:02}"))
        .collect();
    for path in wanted.iter().rev() {
        volume.put_entry(path, Bytes::from_static(b"{}")).await.unwrap();
    }
    volume
        .put_entry(&format!("{prefix}-neighbour/asset"), Bytes::from_static(b"{}"))
        .await
        .unwrap();
    assert_eq!(
        volume
            .list_entries(&format!("{prefix}-nobody"), None, 10)
            .await
            .unwrap(),
        Vec::<String>::new()
    );
    let mut listed: Vec<String> = Vec::new();
    loop {
        let page = volume
            .list_entries(&prefix, listed.last().map(String::as_str), 10)
            .await
            .unwrap();
        assert!(page.len() <= 10);
        if page.is_empty() {
            break;
        }
        listed.extend(page);
    }
    assert_eq!(listed, wanted);
    volume.delete_entry(&wanted.remove(3)).await.unwrap();
    assert_eq!(volume.list_entries(&prefix, None, 100).await.unwrap(), wanted);
}
