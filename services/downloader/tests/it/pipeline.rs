//! What becomes of announced assets.

use std::io::Cursor;
use std::time::Duration;

use common::broker;
use common::schemas::{Asset, AssetState, topic};
use downloader::preview;
use image::{DynamicImage, ImageFormat, RgbImage};

use crate::server::Server;
use fixtures::LIMIT;
use testkit::eventually;

use crate::site::Site;

fn png(width: u32, height: u32) -> Vec<u8> {
    let picture = RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([x.to_le_bytes()[0], y.to_le_bytes()[0], 99])
    });
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::ImageRgb8(picture)
        .write_to(&mut bytes, ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn picture_is_stored_previewed_and_recorded() {
    let (server, address) = Server::start().await;
    let site = Site::new(address).await;
    let bytes = png(640, 400);
    server.put("picture", bytes.clone());
    let running = site.start();
    let announced = Asset {
        title: "<script>alert(1)</script>".into(),
        ..testkit::announced(1, "")
    };
    let announced = Asset {
        link: Some(format!("http://{address}/file/picture")),
        ..announced
    };
    site.announces(&announced).await;
    let asset = site.downloaded(&announced.asset_id).await;
    assert_eq!(site.bytes(&asset).await, bytes);
    assert_eq!(asset.hash, Some(testkit::hash(&bytes)));
    assert_eq!(
        asset.media_type.as_deref(),
        Some("image/png"),
        "by its bytes, not by the server's word"
    );
    assert_eq!(asset.file_name.as_deref(), Some("picture.png"));
    assert_eq!(asset.title, announced.title, "text is carried as it is");
    assert!(asset.downloaded_at.is_some());
    let preview = site
        .preview(&asset.asset_id)
        .await
        .expect("the preview comes before the outcome");
    assert_eq!((preview.width, preview.height), (160, 100));
    assert!(preview.picture.len() <= preview::MAX_BYTES);
    assert_eq!(image::guess_format(&preview.picture).unwrap(), ImageFormat::Jpeg);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_freed_before_they_are_recorded_are_downloaded_again() {
    let (server, address) = Server::start().await;
    let site = Site::new(address).await;
    let bytes = png(640, 400);
    server.put("picture", bytes.clone());
    let (hash, volume) = (testkit::hash(&bytes), site.volume.clone());
    // As depot does that frees them for another asset which had them.
    let freed = tokio::spawn(async move {
        while volume.stat(&hash).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        volume.delete(&hash).await.unwrap();
    });
    let running = site.start();
    let id = site.announce(1, format!("http://{address}/file/picture")).await;
    let asset = eventually(LIMIT, async || {
        let outcomes = site.outcomes(&id).await;
        outcomes
            .get(1)
            .cloned()
            .ok_or_else(|| format!("{} outcomes", outcomes.len()))
    })
    .await;
    assert!(freed.is_finished());
    assert_eq!(site.bytes(&asset).await, bytes);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn picture_that_cannot_be_decoded_is_downloaded_without_preview() {
    let (server, address) = Server::start().await;
    let site = Site::new(address).await;
    // A header of 50,000 × 50,000 pixels: the decoder's checksum is of no matter to one who only counts.
    let mut bomb = png(8, 8);
    bomb[16..24].copy_from_slice(&[0, 0, 0xc3, 0x50, 0, 0, 0xc3, 0x50]);
    server.put("bomb.png", bomb);
    // Within the pixels, but all zeros: 6,000 × 6,000 in some tens of kilobytes, 108 MB decoded.
    let mut flat = Cursor::new(Vec::new());
    DynamicImage::new_rgb8(6000, 6000)
        .write_to(&mut flat, ImageFormat::Png)
        .unwrap();
    assert!(flat.get_ref().len() < 1 << 20);
    server.put("flat.png", flat.into_inner());
    server.put("torn.jpg", b"\xff\xd8\xff\xe0 torn".to_vec());
    server.put("drawing.svg", b"<svg onload='alert(1)'/>".to_vec());
    let running = site.start();
    for (number, name, kind) in [
        (1, "bomb.png", "image/png"),
        (2, "flat.png", "image/png"),
        (3, "torn.jpg", "image/jpeg"),
        (4, "drawing.svg", "image/svg+xml"),
    ] {
        let id = site
            .announce(number, format!("http://{address}/file/{name}"))
            .await;
        let asset = site.downloaded(&id).await;
        assert_eq!(asset.media_type.as_deref(), Some(kind));
        assert_eq!(site.preview(&id).await, None, "{name}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn file_name_stays_in_its_directory() {
    let (_server, address) = Server::start().await;
    let site = Site::new(address).await;
    let running = site.start();
    let id = site.announce(1, format!("http://{address}/named")).await;
    let asset = site.downloaded(&id).await;
    assert_eq!(asset.file_name.as_deref(), Some("passwd.txt"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn record_that_cannot_be_decoded_becomes_a_dead_letter() {
    let (server, address) = Server::start().await;
    let site = Site::new(address).await;
    server.put("good.txt", b"good".to_vec());
    let id = testkit::asset_id(1);
    // The same key, so that the good one is behind the bad one.
    site.send_bytes(topic::ASSET_PIPELINE, &id, b"not avro at all".to_vec())
        .await;
    site.announce(1, format!("http://{address}/file/good.txt")).await;
    let running = site.start();
    site.downloaded(&id).await;
    let letters = eventually(LIMIT, async || {
        let mut letters = Vec::new();
        let dead = format!("{}.dead-letter", topic::ASSET_PIPELINE);
        site.broker
            .read_to_end(&dead, |record| letters.push(record))
            .await
            .map_err(|error| error.to_string())?;
        if letters.is_empty() {
            Err("no dead letter".to_owned())
        } else {
            Ok(letters)
        }
    })
    .await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].value.as_deref(), Some(&b"not avro at all"[..]));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_twice_is_the_same_as_once() {
    let (server, address) = Server::start().await;
    let site = Site::new(address).await;
    server.put("twice.txt", b"twice".to_vec());
    let link = format!("http://{address}/file/twice.txt");
    let running = site.start();
    let id = site.announce(1, &link).await;
    let first = site.downloaded(&id).await;
    site.announce(1, &link).await;
    let outcomes = eventually(LIMIT, async || {
        let outcomes = site.outcomes(&id).await;
        if outcomes.len() < 2 {
            Err("one outcome".to_owned())
        } else {
            Ok(outcomes)
        }
    })
    .await;
    let second = Asset {
        downloaded_at: first.downloaded_at,
        ..outcomes[1].clone()
    };
    assert_eq!(second, first);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn announcement_with_its_outcome_behind_it_is_passed_over() {
    let (server, address) = Server::start().await;
    let site = Site::new(address).await;
    server.put("other.txt", b"other".to_vec());
    // As a crash between outcome and commit leaves it; meanwhile the link has gone.
    let id = site.announce(1, format!("http://{address}/gone.txt")).await;
    let broadcast = Asset {
        state: AssetState::Broadcast,
        ..testkit::downloaded(1, b"bytes")
    };
    site.announces(&broadcast).await;
    let running = site.start();
    let other = site.announce(2, format!("http://{address}/file/other.txt")).await;
    site.downloaded(&other).await;
    // Every partition is handled to its end when the group has committed it.
    eventually(LIMIT, async || {
        let committed = site
            .broker
            .committed("core.downloader", topic::ASSET_PIPELINE)
            .await
            .unwrap();
        for partition in 0..3 {
            let high = site
                .broker
                .watermarks(topic::ASSET_PIPELINE, partition)
                .await
                .unwrap()
                .high;
            if high > 0 && !committed.contains(&(partition, high)) {
                return Err(format!("partition {partition} is at {committed:?}, not {high}"));
            }
        }
        Ok(())
    })
    .await;
    assert_eq!(server.asked("/gone.txt"), [], "nobody asked for it again");
    assert_eq!(site.outcomes(&id).await, [broadcast]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_states_and_tombstones_are_passed_over() {
    let (server, address) = Server::start().await;
    let site = Site::new(address).await;
    server.put("good.txt", b"good".to_vec());
    site.announces(&testkit::downloaded(1, b"bytes")).await;
    let tombstone = broker::Outgoing::tombstone(topic::ASSET_PIPELINE, testkit::asset_id(2).as_str());
    site.broker.producer().unwrap().send(tombstone).await.unwrap();
    let running = site.start();
    let id = site.announce(3, format!("http://{address}/file/good.txt")).await;
    site.downloaded(&id).await;
    assert_eq!(site.outcomes(&testkit::asset_id(1)).await.len(), 1);
    running.stop().await;
}
