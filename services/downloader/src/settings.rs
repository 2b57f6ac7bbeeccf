//! What an operator can set.

use common::chassis::{ByteSize, Span};
use common::{broker, chassis, volume};
use serde::{Deserialize, Serialize};

use crate::address::Guard;

/// Settings of downloader.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The site's broker.
    pub broker: broker::Settings,
    /// Where the bytes go.
    pub volume: volume::Settings,
    /// What links may lead to besides public addresses: `host`, `host:port`, an address, or a network such as
    /// `10.1.0.0/16`.
    pub allow: Vec<String>,
    /// The largest asset.
    pub max_bytes: ByteSize,
    /// How many assets are downloaded at once.
    pub concurrency: usize,
    /// How often one asset is tried before it is failed.
    pub attempts: u32,
    /// The wait before the second attempt; it doubles, with jitter, up to `backoff_max`.
    pub backoff: Span,
    /// The longest wait between attempts, a server's Retry-After included.
    pub backoff_max: Span,
    /// How long connecting may take.
    pub connect_timeout: Span,
    /// How long a server may be silent.
    pub idle_timeout: Span,
    /// How long one asset may take, all attempts included.
    pub total_timeout: Span,
    /// How many redirects are followed.
    pub max_redirects: u32,
    /// How previews are made.
    pub preview: PreviewSettings,
}

/// How previews are made.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PreviewSettings {
    /// Whether they are made at all.
    pub enabled: bool,
    /// The most pixels of a picture that is decoded.
    pub max_pixels: u64,
    /// The most memory that decoding takes; pictures are decoded one at a time.
    pub max_memory: ByteSize,
    /// The largest file that is decoded.
    pub max_bytes: ByteSize,
    /// How long decoding may take.
    pub timeout: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            broker: broker::Settings::default(),
            volume: volume::Settings::default(),
            allow: Vec::new(),
            max_bytes: ByteSize::gib(2),
            concurrency: 8,
            attempts: 5,
            backoff: Span::millis(500),
            backoff_max: Span::seconds(60),
            connect_timeout: Span::seconds(10),
            idle_timeout: Span::seconds(30),
            total_timeout: Span::seconds(3600),
            max_redirects: 5,
            preview: PreviewSettings::default(),
        }
    }
}

impl Default for PreviewSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            max_pixels: 50_000_000,
            max_memory: ByteSize::mib(64),
            max_bytes: ByteSize::mib(32),
            timeout: Span::seconds(20),
        }
    }
}

impl chassis::Settings for Settings {
    fn validate(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        if let Err(wrong) = self.broker.validate() {
            problems.extend(wrong.into_iter().map(|problem| format!("broker: {problem}")));
        }
        if let Err(wrong) = self.volume.validate() {
            problems.extend(wrong.into_iter().map(|problem| format!("volume: {problem}")));
        }
        if let Err(wrong) = Guard::new(&self.allow) {
            problems.extend(wrong);
        }
        if !(1..=256).contains(&self.concurrency) {
            problems.push("concurrency: 1 to 256".into());
        }
        if !(1..=100).contains(&self.attempts) {
            problems.push("attempts: 1 to 100".into());
        }
        if self.max_redirects > 20 {
            problems.push("max_redirects: at most 20".into());
        }
        if self.max_bytes.bytes() == 0 {
            problems.push("max_bytes: more than 0B".into());
        }
        let times = [
            ("backoff", self.backoff),
            ("backoff_max", self.backoff_max),
            ("connect_timeout", self.connect_timeout),
            ("idle_timeout", self.idle_timeout),
            ("total_timeout", self.total_timeout),
            ("preview.timeout", self.preview.timeout),
        ];
        for (name, _) in times.iter().filter(|(_, time)| time.is_zero()) {
            problems.push(format!("{name}: more than 0s"));
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }
}
