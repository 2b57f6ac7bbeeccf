//! The file whose content makes its bearer the operator `command line`.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context, ensure};

use super::secret;

/// The shortest token that is taken.
const SHORTEST: usize = 32;

/// Reads the token of a file; makes both, for its owner alone, when there is no file. The file appears whole or not at all.
///
/// # Errors
/// When the file can be neither read nor made, or holds no token.
pub fn token(path: &Path) -> anyhow::Result<String> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return make(path).with_context(|| format!("cannot make the token file {}", path.display()));
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read the token file {}", path.display()));
        }
    };
    let text = text.trim();
    ensure!(
        text.len() >= SHORTEST,
        "the token file {} holds fewer than {SHORTEST} letters; delete it, and a new one is made",
        path.display()
    );
    if fs::metadata(path).is_ok_and(|file| file.mode() & 0o007 != 0) {
        tracing::warn!(path = %path.display(), "everybody on this machine can read the token file");
    }
    Ok(text.to_owned())
}

fn make(path: &Path) -> std::io::Result<String> {
    let directory = path
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(directory)?;
    let token = secret::make();
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{:016x}", rand::random::<u64>()));
    let beside = Path::new(&beside);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(beside)?;
    writeln!(file, "{token}")?;
    file.sync_all()?;
    // Unlike a rename, a link never takes the place of a token that somebody else has just made.
    let linked = fs::hard_link(beside, path);
    fs::remove_file(beside)?;
    File::open(directory)?.sync_all()?;
    match linked {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Ok(fs::read_to_string(path)?.trim().to_owned())
        }
        linked => linked.map(|()| token),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_made_once_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/viewer.token");
        let made = token(&path).unwrap();
        assert_eq!(token(&path).unwrap(), made);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::write(&path, "short\n").unwrap();
        assert!(token(&path).unwrap_err().to_string().contains("fewer than 32"));
    }
}
