//! Where assets are announced from.
//!
//! An entry that cannot be read never stops the rest: it is named in the listing's `rejected`. A catalogue that cannot
//! be read at all is an error, and is tried again.

mod directory;
mod nasa;
mod syndication;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use url::Url;

pub use directory::servable;

use crate::entry::Listing;
use crate::error::{Error, Result};
use crate::live::Live;
use crate::sample;

/// The largest catalogue that is read.
pub const MAX_BYTES: u64 = 32 * 1024 * 1024;

/// A catalogue, by its URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Catalogue {
    /// `nasa-file:///path/search.json`: a saved NASA Images API search.
    NasaFile(PathBuf),
    /// `nasa+https://images-api.nasa.gov/search?q=…`: a live one.
    NasaLive(Url),
    /// `feed-file:///path/feed.xml`: a saved RSS, Atom or JSON feed.
    FeedFile(PathBuf),
    /// `rss+https://…`: a live RSS, Atom or JSON feed.
    FeedLive(Url),
    /// `dir:///path`: the files of a directory.
    Directory(PathBuf),
    /// `sample:`: the built-in pictures.
    Sample,
}

impl FromStr for Catalogue {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let known =
            "sample:, dir:///path, nasa-file:///path, nasa+https://…, feed-file:///path or rss+https://…";
        let live = |rest: &str| {
            let url = Url::parse(rest).map_err(|error| format!("{text}: {error}"))?;
            if matches!(url.scheme(), "http" | "https") && url.has_host() {
                Ok(url)
            } else {
                Err(format!("{text} names no http or https host"))
            }
        };
        let file = |rest: &str| {
            let url = Url::parse(&format!("file{rest}")).map_err(|error| format!("{text}: {error}"))?;
            url.to_file_path()
                .map_err(|()| format!("{text} needs an absolute path, as {known}"))
        };
        if text == "sample:" {
            return Ok(Self::Sample);
        }
        if let Some(rest) = text.strip_prefix("nasa-file") {
            return file(rest).map(Self::NasaFile);
        }
        if let Some(rest) = text.strip_prefix("feed-file") {
            return file(rest).map(Self::FeedFile);
        }
        if let Some(rest) = text.strip_prefix("nasa+") {
            return live(rest).map(Self::NasaLive);
        }
        if let Some(rest) = text.strip_prefix("rss+") {
            return live(rest).map(Self::FeedLive);
        }
        match text.strip_prefix("dir") {
            Some(rest) if rest.starts_with(':') => file(rest).map(Self::Directory),
            _ if text.is_empty() => Err(format!("not set; {known}")),
            _ => Err(format!("{text} is none of {known}")),
        }
    }
}

impl Catalogue {
    /// The name that asset ids are derived from, where the operator gives none. A saved NASA search and a live one name
    /// the same assets.
    pub fn name(&self) -> String {
        match self {
            Self::NasaFile(_) | Self::NasaLive(_) => "nasa".to_owned(),
            Self::FeedFile(path) | Self::Directory(path) => {
                let name = path.file_name().unwrap_or(path.as_os_str());
                name.to_string_lossy().into_owned()
            }
            Self::FeedLive(url) => format!("{}{}", url.host_str().unwrap_or_default(), url.path()),
            Self::Sample => "sample".to_owned(),
        }
    }

    /// Whether this service serves the assets' bytes itself.
    pub fn served(&self) -> bool {
        matches!(self, Self::Directory(_) | Self::Sample)
    }

    /// Reads the catalogue as it is now.
    pub async fn read(&self, live: &Live) -> Result<Listing> {
        match self {
            Self::NasaFile(path) => nasa::parse(&saved(path).await?),
            Self::NasaLive(url) => nasa::parse(&live.get(url).await?),
            Self::FeedFile(path) => syndication::parse(&saved(path).await?, None),
            Self::FeedLive(url) => syndication::parse(&live.get(url).await?, Some(url)),
            Self::Directory(path) => directory::read(path).await,
            Self::Sample => Ok(Listing {
                entries: sample::entries(),
                rejected: Vec::new(),
            }),
        }
    }
}

async fn saved(path: &Path) -> Result<Vec<u8>> {
    let read = |source| Error::Read {
        catalogue: path.display().to_string(),
        source,
    };
    let size = tokio::fs::metadata(path).await.map_err(read)?.len();
    if size > MAX_BYTES {
        return Err(Error::TooLarge {
            catalogue: path.display().to_string(),
            limit: MAX_BYTES,
        });
    }
    tokio::fs::read(path).await.map_err(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_names_the_kind() {
        let parse = |text: &str| text.parse::<Catalogue>();
        assert_eq!(parse("sample:"), Ok(Catalogue::Sample));
        assert_eq!(
            parse("dir:///srv/a%20b"),
            Ok(Catalogue::Directory("/srv/a b".into()))
        );
        assert_eq!(
            parse("nasa-file:///x/search.json"),
            Ok(Catalogue::NasaFile("/x/search.json".into()))
        );
        assert_eq!(
            parse("feed-file:///x/feed.xml"),
            Ok(Catalogue::FeedFile("/x/feed.xml".into()))
        );
        let live = parse("nasa+https://images-api.nasa.gov/search?q=mars").unwrap();
        assert!(matches!(&live, Catalogue::NasaLive(url) if url.query() == Some("q=mars")));
        assert_eq!(live.name(), parse("nasa-file:///other.json").unwrap().name());
        assert_eq!(
            parse("rss+https://example.org/news.rss").unwrap().name(),
            "example.org/news.rss"
        );
        for wrong in [
            "",
            "sample",
            "dir",
            "directory:///x",
            "rss+ftp://x/",
            "nasa+",
            "http://x/",
            "nasa-file://host/x",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
