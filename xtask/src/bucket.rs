//! An S3 server for as long as tests run.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use crate::run::{program, say};

const BUCKET: &str = "fieldline";
/// The first start fetches its packages.
const START: Duration = Duration::from_secs(180);

/// A server that runs until this is dropped.
#[derive(Debug)]
pub(crate) struct Bucket {
    _server: Child,
    endpoint: String,
}

impl Bucket {
    /// Starts it with an empty bucket.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        say("starting an S3 server");
        let mut command = program("tests/python/run", &["serve_s3.py", BUCKET]);
        let mut server = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = server.stdout.take().context("the S3 server has no output")?;
        let mut lines = BufReader::new(output).lines();
        let line = tokio::time::timeout(START, lines.next_line())
            .await
            .context("the S3 server does not start")??;
        let endpoint = line.context("the S3 server ended")?;
        ensure!(
            endpoint.starts_with("http://"),
            "the S3 server said {endpoint:?} instead of its address"
        );
        Ok(Self {
            _server: server,
            endpoint,
        })
    }

    /// What tests need to find it.
    pub(crate) fn environment(&self) -> [(&'static str, String); 2] {
        [
            ("S3_URL", format!("s3://{BUCKET}")),
            ("S3_ENDPOINT", self.endpoint.clone()),
        ]
    }
}
