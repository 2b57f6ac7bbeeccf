//! A process that is killed while it writes: nothing that it said it stored is lost, nothing partial is visible.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use volume::{CHUNK, Volume, contract};

use crate::directory;

const CHILD: &str = "VOLUME_CRASH_CHILD";
const COPY_SIZE: usize = 64 << 20;

fn object(seed: u64, number: u64) -> Vec<u8> {
    let sizes = [10, 70_000, 400_000, 65_536, 3 << 20];
    contract::bytes(
        sizes[(number % 5) as usize],
        seed.wrapping_mul(1000).wrapping_add(number),
    )
}

/// The child's half: stores objects and grows a copy until it is killed. Without its variable it has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "how the parent speaks to it"
)]
async fn child() {
    let Ok(task) = std::env::var(CHILD) else { return };
    let (seed, path) = task.split_once(' ').unwrap();
    let seed: u64 = seed.parse().unwrap();
    let volume = Volume::open(&directory(Path::new(path))).await.unwrap();
    let bytes = contract::bytes(COPY_SIZE, seed);
    let chunks = listed(&bytes).await;
    let mut copy = volume
        .partial(&blake3_of(&bytes), bytes.len() as u64, chunks)
        .await
        .unwrap();
    println!("\nresumed {}", copy.verified());
    for number in 0.. {
        let mut writer = volume.writer().await.unwrap();
        writer.write(&object(seed, number)).await.unwrap();
        writer.finish().await.unwrap();
        println!("\nstored {number}");
        for _ in 0..4 {
            if let Some(range) = copy.next_chunk() {
                let (start, end) = (range.start as usize, range.end as usize);
                copy.append(&bytes[start..end]).await.unwrap();
            }
        }
        println!("\nverified {}", copy.verified());
    }
}

fn blake3_of(bytes: &[u8]) -> schemas::Hash {
    blake3::hash(bytes).into()
}

async fn listed(bytes: &[u8]) -> volume::Chunks {
    let home = testkit::temp_dir();
    let volume = Volume::open(&directory(home.path())).await.unwrap();
    let mut writer = volume.writer().await.unwrap();
    writer.write(bytes).await.unwrap();
    let stored = writer.finish().await.unwrap();
    volume.chunks(&stored.hash).await.unwrap().unwrap()
}

fn every_visible_object_is_whole(root: &Path) {
    for file in walk(&root.join("objects")) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(&file).unwrap();
        match name.strip_suffix(".chunks") {
            Some(hash) => {
                let list = volume::Chunks::from_bytes(bytes).unwrap();
                if let Ok(object) = std::fs::metadata(file.with_file_name(hash)) {
                    list.verify(&hash.parse().unwrap(), object.len()).unwrap();
                }
            }
            None => {
                assert_eq!(
                    blake3::hash(&bytes).to_hex().as_str(),
                    name,
                    "a visible object is whole"
                );
                let needs = bytes.len() as u64 > CHUNK;
                assert!(
                    !needs || file.with_file_name(format!("{name}.chunks")).exists(),
                    "its list came before it"
                );
            }
        }
    }
}

fn walk(path: &Path) -> Vec<std::path::PathBuf> {
    let inside = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    inside
        .flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] })
        .collect()
}

#[tokio::test]
async fn a_killed_writer_loses_nothing_it_stored_and_shows_nothing_partial() {
    let seed = u64::from(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .subsec_nanos(),
    );
    eprintln!("seed {seed}");
    let home = testkit::temp_dir();
    let (mut stored, mut verified) = (0, 0u64);
    for round in 0..testkit::rounds(5) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["crash::child", "--exact", "--nocapture"])
            .env(CHILD, format!("{seed} {}", home.path().display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (say, hear) = std::sync::mpsc::channel();
        let output = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if say.send(line).is_err() {
                    return;
                }
            }
        });
        let mut kill_at = None;
        let pause = Duration::from_micros(seed.wrapping_mul(round as u64 + 1) % 250_000);
        loop {
            let left = kill_at.map_or(Duration::from_secs(60), |at: std::time::Instant| {
                at.saturating_duration_since(std::time::Instant::now())
            });
            let Ok(line) = hear.recv_timeout(left) else { break };
            match line.split_once(' ') {
                Some(("resumed", bytes)) => {
                    let bytes: u64 = bytes.parse().unwrap();
                    assert!(
                        bytes >= verified && bytes.is_multiple_of(CHUNK),
                        "it goes on at a verified chunk"
                    );
                    verified = bytes;
                    kill_at = Some(std::time::Instant::now() + pause);
                }
                Some(("stored", number)) => stored = stored.max(number.parse::<u64>().unwrap() + 1),
                Some(("verified", bytes)) => verified = verified.max(bytes.parse().unwrap()),
                _ => {}
            }
        }
        assert!(kill_at.is_some(), "the child came to its work");
        child.kill().unwrap();
        child.wait().unwrap();
        every_visible_object_is_whole(home.path());
        let volume = Volume::open(&directory(home.path())).await.unwrap();
        for number in 0..stored {
            let bytes = object(seed, number);
            assert_eq!(
                volume.stat(&blake3_of(&bytes)).await.unwrap(),
                Some(bytes.len() as u64),
                "object {number}"
            );
        }
    }
    let copy = contract::bytes(COPY_SIZE, seed);
    assert!(stored > 0 && verified > 0);
    let settings = volume::Settings {
        staging_max_age: units::Span::millis(0),
        ..directory(home.path())
    };
    let volume = Volume::open(&settings).await.unwrap();
    assert!(
        walk(&home.path().join("staging"))
            .iter()
            .all(|file| file.extension().is_some_and(|end| end == "partial"))
    );
    let mut again = volume
        .partial(&blake3_of(&copy), COPY_SIZE as u64, listed(&copy).await)
        .await
        .unwrap();
    assert!(again.verified() >= verified);
    while let Some(range) = again.next_chunk() {
        let (start, end) = (range.start as usize, range.end as usize);
        again.append(&copy[start..end]).await.unwrap();
    }
    again.publish().await.unwrap();
    every_visible_object_is_whole(home.path());
}
