//! What an operator sets: where the bytes live.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use units::{Secret, Span};
use url::Url;

use crate::error::{Error, Result};

/// Where a volume is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `file:///dir`, or `s3://bucket/prefix`. There is no default.
    pub url: String,
    /// The local directory for bytes on their way into the volume. A directory volume has `staging` inside it, and any
    /// other must be on the same filesystem; a bucket needs one.
    pub staging: Option<PathBuf>,
    /// What a dead writer left in staging is removed when it is older. Partial copies are kept.
    pub staging_max_age: Span,
    /// How to reach a bucket.
    pub s3: S3,
}

/// How to reach a bucket.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3 {
    /// The endpoint, as `https://s3.example.org`; Amazon's when unset. Plain `http` works too.
    pub endpoint: Option<String>,
    /// The region.
    pub region: String,
    /// The key's id; the machine's own identity when unset.
    pub access_key_id: Option<String>,
    /// The key.
    pub secret_access_key: Option<Secret>,
    /// Whether the bucket is part of the host name, as Amazon wants it.
    pub virtual_hosted: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: String::new(),
            staging: None,
            staging_max_age: Span::seconds(3600),
            s3: S3::default(),
        }
    }
}

impl Default for S3 {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: "us-east-1".into(),
            access_key_id: None,
            secret_access_key: None,
            virtual_hosted: false,
        }
    }
}

/// The place that a URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Directory(PathBuf),
    Bucket { name: String, prefix: String },
}

impl Settings {
    /// What is wrong, each problem with its key.
    pub fn validate(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        match self.place() {
            Ok(Place::Bucket { .. }) if self.staging.is_none() => {
                problems.push("staging: not set; a bucket needs a local directory".into());
            }
            Ok(_) => {}
            Err(error) => problems.push(format!(
                "url: {}",
                error.to_string().trim_start_matches("volume settings: ")
            )),
        }
        if self.s3.access_key_id.is_some() != self.s3.secret_access_key.is_some() {
            problems.push("s3: access_key_id and secret_access_key go together".into());
        }
        if let Some(Err(error)) = self.s3.endpoint.as_deref().map(Url::parse) {
            problems.push(format!("s3.endpoint: {error}"));
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }

    pub(crate) fn place(&self) -> Result<Place> {
        let wrong = |what: &str| Err(Error::Settings(what.into()));
        if self.url.is_empty() {
            return wrong("not set; write it as file:///dir or s3://bucket/prefix");
        }
        let Ok(url) = Url::parse(&self.url) else {
            return wrong("is no URL; write it as file:///dir or s3://bucket/prefix");
        };
        match url.scheme() {
            "file" => match url.to_file_path() {
                Ok(path) if path != Path::new("/") => Ok(Place::Directory(path)),
                _ => wrong("must name a directory of this machine, as file:///dir"),
            },
            "s3" => match url.host_str() {
                Some(bucket) if !bucket.is_empty() => Ok(Place::Bucket {
                    name: bucket.into(),
                    prefix: url.path().trim_matches('/').into(),
                }),
                _ => wrong("names no bucket; write it as s3://bucket/prefix"),
            },
            _ => wrong("is neither file:///dir nor s3://bucket/prefix"),
        }
    }

    /// Where bytes are staged.
    pub(crate) fn staging(&self, place: &Place) -> Result<PathBuf> {
        match (&self.staging, place) {
            (Some(path), _) => Ok(path.clone()),
            (None, Place::Directory(root)) => Ok(root.join("staging")),
            (None, Place::Bucket { .. }) => Err(Error::Settings(
                "staging: not set; a bucket needs a local directory".into(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> Settings {
        Settings {
            url: url.into(),
            ..Settings::default()
        }
    }

    #[test]
    fn only_directories_and_buckets_are_volumes() {
        assert_eq!(
            at("file:///var/fieldline").place().unwrap(),
            Place::Directory("/var/fieldline".into())
        );
        let bucket = Place::Bucket {
            name: "assets".into(),
            prefix: "core/a".into(),
        };
        assert_eq!(at("s3://assets/core/a/").place().unwrap(), bucket);
        for url in [
            "",
            "file:///",
            "/var/fieldline",
            "http://host/dir",
            "s3:///prefix",
        ] {
            assert!(at(url).validate().is_err(), "{url:?} must be refused");
        }
    }

    #[test]
    fn a_bucket_needs_staging_and_whole_keys() {
        let mut settings = at("s3://assets");
        settings.s3.access_key_id = Some("id".into());
        assert_eq!(settings.validate().unwrap_err().len(), 2);
        settings.staging = Some("/var/tmp".into());
        settings.s3.secret_access_key = Some(Secret::new("hunter2"));
        assert!(settings.validate().is_ok());
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
