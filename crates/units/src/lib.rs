//! Values as an operator writes them in settings: durations and sizes with their unit, and secrets that never print.
//!
//! Each type parses from the text it displays, exactly, so printed settings can be read back (secrets excepted).

use std::fmt::{self, Debug, Display, Formatter};
use std::ops::Deref;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time, written `250ms`, `5s` or `1h 30m`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub Duration);

impl Span {
    /// So many milliseconds.
    pub const fn millis(count: u64) -> Self {
        Self(Duration::from_millis(count))
    }

    /// So many seconds.
    pub const fn seconds(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }
}

impl Deref for Span {
    type Target = Duration;

    fn deref(&self) -> &Duration {
        &self.0
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

impl Display for Span {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(&humantime::format_duration(self.0), f)
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|_| format!("`{text}` is no duration; write it as 250ms, 5s or 1h"))
    }
}

/// A number of bytes, written `64MiB`, `1GB` or `512B`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// So many KiB.
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    /// So many MiB.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// So many GiB.
    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// About so much, as people read it and as the page writes it: `532 B`, `4.2 MiB`, `120 GiB`.
    #[expect(clippy::cast_precision_loss, reason = "words for people")]
    pub fn about(self) -> String {
        let (mut value, mut unit) = (self.0 as f64, "B");
        for next in ["KiB", "MiB", "GiB", "TiB"] {
            if value < 1024.0 {
                break;
            }
            (value, unit) = (value / 1024.0, next);
        }
        let digits = usize::from(unit != "B" && value < 100.0);
        format!("{value:.digits$} {unit}")
    }
}

impl Display for ByteSize {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let units = [
            (1 << 40, "TiB"),
            (1 << 30, "GiB"),
            (1 << 20, "MiB"),
            (1 << 10, "KiB"),
        ];
        match units
            .into_iter()
            .find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit))
        {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<bytesize::ByteSize>()
            .map(|size| Self(size.as_u64()))
            .map_err(|_| format!("`{text}` is no size; write it as 64MiB, 1GB or 512B"))
    }
}

macro_rules! text {
    ($type:ty) => {
        impl Debug for $type {
            fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
                Display::fmt(self, f)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(de::Error::custom)
            }
        }
    };
}
text!(Span);
text!(ByteSize);

/// A text that is shown to nobody: it prints and serialises as `[redacted]`, or as nothing when it is empty.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn shown(&self) -> &'static str {
        if self.0.is_empty() { "" } else { "[redacted]" }
    }
}

impl Debug for Secret {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.shown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_what_they_print() {
        for span in [
            Span::millis(250),
            Span::seconds(90),
            Span::seconds(0),
            Span::millis(86_400_001),
        ] {
            assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
        }
        for size in [0, 1, 1023, 1024, 65_537, 64 << 20, 5_000_000_000] {
            assert_eq!(
                ByteSize(size).to_string().parse::<ByteSize>().unwrap(),
                ByteSize(size)
            );
        }
        assert_eq!(ByteSize::mib(64).to_string(), "64MiB");
        assert_eq!("1GB".parse::<ByteSize>().unwrap().bytes(), 1_000_000_000);
    }

    #[test]
    fn sizes_for_people_are_short() {
        let shown = [0, 532, 1024, 4_400_000, 128_849_018_880, u64::MAX].map(|size| ByteSize(size).about());
        assert_eq!(
            shown,
            ["0 B", "532 B", "1.0 KiB", "4.2 MiB", "120 GiB", "16777216 TiB"]
        );
    }

    #[test]
    fn wrong_text_is_refused_with_an_example() {
        assert!("5".parse::<Span>().unwrap_err().contains("250ms"));
        assert!("five".parse::<ByteSize>().unwrap_err().contains("64MiB"));
    }

    #[test]
    fn secrets_never_print() {
        let secret: Secret = serde_json::from_str("\"hunter2\"").unwrap();
        assert_eq!(secret.expose(), "hunter2");
        assert_eq!(
            format!("{secret:?} {}", serde_json::to_string(&secret).unwrap()),
            "[redacted] \"[redacted]\""
        );
        assert_eq!(serde_json::to_string(&Secret::default()).unwrap(), "\"\"");
    }
}
