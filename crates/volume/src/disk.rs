//! What makes a file or a name outlive a power cut. Nothing else in this crate syncs or renames, so that the tests can tell
//! what a disk would hold if the power failed at any of these steps.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::error::{Error, Result};

/// Makes a file's bytes durable.
pub(crate) fn sync(file: &File) -> io::Result<()> {
    file.sync_all()?;
    #[cfg(test)]
    power_cut::synced(file);
    Ok(())
}

/// Makes what happened to the names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<()> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(Error::file("sync a directory of the volume"))?;
    #[cfg(test)]
    power_cut::synced_directory(path);
    Ok(())
}

/// Gives a file another name in one step.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    #[cfg(test)]
    power_cut::renamed(to);
    Ok(())
}

#[cfg(test)]
mod power_cut {
    //! A disk that keeps nothing but what was synced: bytes by file, names by directory.

    use std::collections::{BTreeMap, HashMap};
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};
    use std::path::PathBuf;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use super::*;
    use crate::contract::bytes;
    use crate::{CHUNK, Settings, Volume};

    type Node = (u64, u64);

    #[derive(Default)]
    struct Disk {
        /// The volumes that are watched; other tests run at the same time.
        roots: Vec<PathBuf>,
        files: BTreeMap<Node, Vec<u8>>,
        names: BTreeMap<Node, HashMap<String, Node>>,
        steps: usize,
    }

    static DISK: Mutex<Option<Disk>> = Mutex::new(None);

    fn disk() -> MutexGuard<'static, Option<Disk>> {
        DISK.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn node(metadata: &fs::Metadata) -> Node {
        (metadata.dev(), metadata.ino())
    }

    /// The names of a directory as they are now, synced or not.
    fn names(path: &Path) -> HashMap<String, Node> {
        let entries = fs::read_dir(path).unwrap().map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, node(&entry.metadata().unwrap()))
        });
        entries.collect()
    }

    pub(super) fn synced(file: &File) {
        if let Some(disk) = &mut *disk() {
            let metadata = file.metadata().unwrap();
            let mut bytes = vec![0; usize::try_from(metadata.len()).unwrap()];
            file.read_exact_at(&mut bytes, 0).unwrap();
            disk.files.insert(node(&metadata), bytes);
        }
    }

    pub(super) fn synced_directory(path: &Path) {
        step(path, |disk| {
            let key = node(&fs::metadata(path).unwrap());
            disk.names.insert(key, names(path));
        });
    }

    pub(super) fn renamed(to: &Path) {
        step(to, |_| {});
    }

    fn step(path: &Path, note: impl FnOnce(&mut Disk)) {
        let mut disk = disk();
        let Some(disk) = &mut *disk else { return };
        let Some(root) = disk.roots.iter().find(|root| path.starts_with(root)).cloned() else {
            return;
        };
        note(disk);
        disk.steps += 1;
        // A name may reach the disk before anybody syncs it; then its bytes must be there already.
        for shard in names(&root.join("objects")).keys() {
            disk.whole(&names(&root.join("objects").join(shard)));
        }
    }

    impl Disk {
        /// Each object that has one of these names is all there.
        fn whole(&self, names: &HashMap<String, Node>) -> Vec<String> {
            for (name, node) in names {
                let bytes = self.files.get(node);
                let bytes = bytes.unwrap_or_else(|| panic!("{name} is visible and its bytes are not synced"));
                match name.strip_suffix(".chunks") {
                    None => assert_eq!(&*blake3::hash(bytes).to_hex(), name, "not all of it is synced"),
                    Some(_) => assert!(!bytes.is_empty() && bytes.len().is_multiple_of(32)),
                }
                if self.files[node].len() as u64 > CHUNK && !name.contains('.') {
                    assert!(
                        names.contains_key(&format!("{name}.chunks")),
                        "{name} has no list"
                    );
                }
            }
            names.keys().cloned().collect()
        }

        /// What is there when the power fails now and no name outlives it but the synced ones.
        fn survivors(&self, root: &Path) -> Vec<String> {
            let of = |node: &Node| self.names.get(node).cloned().unwrap_or_default();
            let top = of(&node(&fs::metadata(root).unwrap()));
            let shards = top.get("objects").map(of).unwrap_or_default();
            shards.values().flat_map(|shard| self.whole(&of(shard))).collect()
        }
    }

    #[tokio::test]
    async fn what_is_published_is_whole_whenever_the_power_fails() {
        let home = testkit::temp_dir();
        let root = home.path().join("volume");
        disk().get_or_insert_default().roots.push(root.clone());
        let settings = Settings {
            url: testkit::directory(home.path(), "volume"),
            ..Settings::default()
        };
        let volume = Volume::open(&settings).await.unwrap();
        let (mut published, mut put) = (Vec::new(), Vec::new());
        for (seed, size) in (0..).zip([0, 1, 65_536, 65_537, 700_000]) {
            let (written, copied) = (bytes(size, seed), bytes(size + 3, seed + 100));
            let mut writer = volume.writer().await.unwrap();
            writer.write(&written).await.unwrap();
            published.push(writer.finish().await.unwrap().hash);

            // A copy as mirror makes one, from another volume's list.
            let (list, hash) = {
                let place = testkit::temp_dir();
                let url = testkit::directory(place.path(), "core");
                let settings = Settings {
                    url,
                    ..Settings::default()
                };
                let core = Volume::open(&settings).await.unwrap();
                let mut writer = core.writer().await.unwrap();
                writer.write(&copied).await.unwrap();
                let hash = writer.finish().await.unwrap().hash;
                (core.chunks(&hash).await.unwrap().unwrap(), hash)
            };
            let partial = volume.partial(&hash, copied.len() as u64, list).await;
            let mut partial = partial.unwrap();
            partial.take(&copied).await.unwrap();
            partial.publish().await.unwrap();
            published.push(hash);

            let small = bytes(size % 999, seed + 200);
            put.push(blake3::hash(&small).into());
            volume.put(&put[put.len() - 1], small.into()).await.unwrap();

            let disk = disk();
            let disk = disk.as_ref().unwrap();
            let survivors = disk.survivors(&root);
            for hash in published.iter().chain(&put) {
                assert!(
                    survivors.iter().any(|name| name == hash.as_str()),
                    "{hash} was said to be published and is gone"
                );
            }
        }
        assert!(disk().as_ref().unwrap().steps > 3 * published.len());
    }
}
