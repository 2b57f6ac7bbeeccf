use volume::{Error, Volume, contract};

use crate::directory;

#[tokio::test]
async fn a_damaged_chunk_list_is_told_and_mended_by_storing_again() {
    let home = testkit::temp_dir();
    let volume = Volume::open(&directory(home.path())).await.unwrap();
    let bytes = contract::bytes(200_000, 1);
    let write = async || {
        let mut writer = volume.writer().await.unwrap();
        writer.write(&bytes).await.unwrap();
        writer.finish().await.unwrap()
    };
    let hash = write().await.hash;
    let list = home
        .path()
        .join(format!("objects/{}/{hash}.chunks", &hash.as_str()[..2]));
    let mut damaged = std::fs::read(&list).unwrap();
    damaged[40] ^= 4;
    std::fs::write(&list, &damaged).unwrap();
    assert!(matches!(volume.chunks(&hash).await, Err(Error::Corrupt { .. })));
    std::fs::remove_file(&list).unwrap();
    assert!(matches!(volume.chunks(&hash).await, Err(Error::Corrupt { .. })));
    write().await;
    assert!(volume.chunks(&hash).await.unwrap().is_some());
}

#[tokio::test]
async fn a_damaged_partial_copy_resumes_before_the_damage() {
    let home = testkit::temp_dir();
    let volume = Volume::open(&directory(home.path())).await.unwrap();
    let bytes = contract::bytes(300_000, 2);
    let mut writer = volume.writer().await.unwrap();
    writer.write(&bytes).await.unwrap();
    let stored = writer.finish().await.unwrap();
    let chunks = volume.chunks(&stored.hash).await.unwrap().unwrap();
    for (kept, verified) in [(65_536 + 5, 65_536), (200_000, 65_536 * 3), (300_000, 300_000)] {
        std::fs::write(
            home.path().join(format!("staging/{}.partial", stored.hash)),
            &bytes[..kept],
        )
        .unwrap();
        let copy = volume
            .partial(&stored.hash, stored.size, chunks.clone())
            .await
            .unwrap();
        assert_eq!(copy.verified(), verified);
    }
    let mut damaged = bytes.clone();
    damaged[70_000] ^= 1;
    std::fs::write(
        home.path().join(format!("staging/{}.partial", stored.hash)),
        &damaged,
    )
    .unwrap();
    let copy = volume.partial(&stored.hash, stored.size, chunks).await.unwrap();
    assert_eq!(copy.verified(), 65_536);
}
