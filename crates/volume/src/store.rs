//! The engine behind a volume, and where in it things are.

use std::path::PathBuf;
use std::sync::Arc;

use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore};
use schemas::Hash;

use crate::disk::sync_directory;
use crate::error::{Error, Result};
use crate::settings::{Place, Settings};

/// The longest path of an entry.
const PATH_BYTES: usize = 512;

/// A directory or a bucket.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pub(crate) engine: Arc<dyn ObjectStore>,
    /// Before every path: empty in a directory.
    prefix: String,
    /// Of a directory volume.
    pub(crate) root: Option<PathBuf>,
}

impl Store {
    /// Opens the place; a directory is made at need. Blocks.
    pub(crate) fn open(settings: &Settings, place: Place) -> Result<Self> {
        match place {
            Place::Directory(root) => directory(root),
            Place::Bucket { name, prefix } => bucket(settings, &name, prefix),
        }
    }

    pub(crate) fn object(&self, hash: &Hash) -> Path {
        self.path(&format!("objects/{}/{hash}", &hash.as_str()[..2]))
    }

    /// Where all objects are.
    pub(crate) fn objects(&self) -> Path {
        self.path("objects")
    }

    pub(crate) fn chunks(&self, hash: &Hash) -> Path {
        self.path(&format!("objects/{}/{hash}.chunks", &hash.as_str()[..2]))
    }

    /// Where an entry is, if its path is one: plain names that stay beside the objects.
    pub(crate) fn entry(&self, path: &str) -> Result<Path> {
        let why = if path.len() > PATH_BYTES {
            "too long"
        } else if path
            .split('/')
            .any(|name| name.is_empty() || name.starts_with('.'))
        {
            "empty, hidden or parent names"
        } else if !path
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/.-_".contains(&byte))
        {
            "letters other than a-z, A-Z, 0-9, dot, dash and underscore"
        } else if path
            .split('/')
            .next()
            .is_some_and(|first| matches!(first, "objects" | "staging"))
        {
            "the volume's own directory"
        } else {
            return Ok(self.path(path));
        };
        Err(Error::Path {
            path: path.chars().take(80).collect(),
            why,
        })
    }

    /// The path that an entry was found by.
    pub(crate) fn relative(&self, path: &Path) -> String {
        let path = path.as_ref();
        path.strip_prefix(&self.prefix)
            .unwrap_or(path)
            .trim_start_matches('/')
            .to_owned()
    }

    /// The file of a directory volume.
    pub(crate) fn file(&self, path: &Path) -> Option<PathBuf> {
        self.root.as_ref().map(|root| root.join(path.as_ref()))
    }

    fn path(&self, path: &str) -> Path {
        if self.prefix.is_empty() {
            Path::from(path)
        } else {
            Path::from(format!("{}/{path}", self.prefix))
        }
    }
}

fn directory(root: PathBuf) -> Result<Store> {
    let objects = root.join("objects");
    // A directory is only there after a power cut when what holds it was synced: each that is new, and the one above.
    let (mut above, mut new) = (root.parent(), !root.exists());
    let mut holders = Vec::new();
    while let Some(holder) = above.filter(|holder| new && !holder.as_os_str().is_empty()) {
        new = !holder.exists();
        holders.push(holder.to_owned());
        above = holder.parent();
    }
    std::fs::create_dir_all(&objects).map_err(Error::file("make the volume's directory"))?;
    // All of them now: so publishing has one directory to sync, and none is ever missing after a crash.
    for number in 0..=u8::MAX {
        match std::fs::create_dir(objects.join(format!("{number:02x}"))) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Error::file("make the volume's directories")(error));
            }
            _ => {}
        }
    }
    sync_directory(&objects)?;
    sync_directory(&root)?;
    for holder in holders {
        sync_directory(&holder)?;
    }
    let engine = LocalFileSystem::new_with_prefix(&root).map_err(Error::store("open", &Path::default()))?;
    Ok(Store {
        engine: Arc::new(engine.with_fsync(true)),
        prefix: String::new(),
        root: Some(root),
    })
}

fn bucket(settings: &Settings, name: &str, prefix: String) -> Result<Store> {
    // The client takes the process's provider; an error means that there is one already.
    drop(rustls::crypto::ring::default_provider().install_default());
    let s3 = &settings.s3;
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(name)
        .with_region(&s3.region)
        .with_virtual_hosted_style_request(s3.virtual_hosted);
    if let Some(endpoint) = &s3.endpoint {
        let plain = endpoint.starts_with("http://");
        builder = builder
            .with_endpoint(endpoint)
            .with_client_options(ClientOptions::new().with_allow_http(plain));
    }
    if let (Some(id), Some(key)) = (&s3.access_key_id, &s3.secret_access_key) {
        builder = builder
            .with_access_key_id(id)
            .with_secret_access_key(key.expose());
    }
    let engine = builder.build().map_err(Error::store("open", &Path::default()))?;
    Ok(Store {
        engine: Arc::new(engine),
        prefix,
        root: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(prefix: &str) -> Store {
        let engine = Arc::new(object_store::memory::InMemory::new());
        Store {
            engine,
            prefix: prefix.into(),
            root: None,
        }
    }

    #[test]
    fn no_path_leads_out_of_the_entries() {
        for path in [
            "",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a//b",
            "mirror/",
            "a/.hidden",
            "a\\b",
            "a b",
            "ü",
            "objects/aa/x",
        ] {
            assert!(
                matches!(store("").entry(path), Err(Error::Path { .. })),
                "{path:?} must be refused"
            );
        }
        assert!(store("").entry(&"a".repeat(513)).is_err());
        assert!(store("").entry("mirror/edge-1/edge-1.00ff.1").is_ok());
    }

    #[test]
    fn paths_are_told_without_the_prefix() {
        let store = store("core/a");
        let path = store.entry("mirror/edge-1/x").unwrap();
        assert_eq!(path.as_ref(), "core/a/mirror/edge-1/x");
        assert_eq!(store.relative(&path), "mirror/edge-1/x");
    }
}
