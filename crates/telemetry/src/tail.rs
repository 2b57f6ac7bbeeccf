//! The last lines of each service, kept in memory for where nobody reads the process's output.
//!
//! Bounded in lines, in bytes and in services, whatever the level. What is logged inside [`untold`] is not kept: the work
//! of passing lines on must not be a reason to pass on more. Lines at level info and above are kept at any level.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value};
use tracing::{Metadata, Span};

use crate::service::Owner;

/// The most lines that are kept of one service.
pub const MAX_LINES: usize = 200;
/// The most bytes that the lines of one service take.
pub const MAX_BYTES: usize = 32 * 1024;
/// The most services of which lines are kept.
const MAX_SERVICES: usize = 256;
/// The longest message, and the longest value of a field.
const MAX_MESSAGE: usize = 2048;
const MAX_VALUE: usize = 512;
const MAX_FIELDS: usize = 24;
/// What a line takes beside its texts.
const LINE: usize = size_of::<Line>() + 2 * size_of::<usize>();

const TARGET: &str = "telemetry::untold";

/// The span around work whose lines are not kept. They are written as all others are.
pub fn untold() -> Span {
    tracing::info_span!(target: TARGET, "untold")
}

/// Whether a span is the one around work whose lines are not kept.
pub(crate) fn hides(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target() == TARGET
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// error, warn, info, debug or trace.
    pub level: &'static str,
    /// The module.
    pub target: &'static str,
    /// The message; what is too long is cut.
    pub message: Box<str>,
    /// The fields of the event and of the spans around it, as a JSON object; empty when there are none.
    pub fields: Box<str>,
}

impl Line {
    pub(crate) fn new(
        at: i64,
        metadata: &'static Metadata<'static>,
        message: &Value,
        fields: &Map<String, Value>,
    ) -> Self {
        let mut kept = Map::new();
        for (name, value) in fields.iter().take(MAX_FIELDS) {
            let value = match value {
                Value::String(text) => cut(text, MAX_VALUE).into(),
                other => other.clone(),
            };
            kept.insert(name.clone(), value);
        }
        let message = match message {
            Value::String(text) => cut(text, MAX_MESSAGE),
            Value::Null => String::new(),
            other => cut(&other.to_string(), MAX_MESSAGE),
        };
        Self {
            at,
            level: level(*metadata.level()),
            target: metadata.target(),
            message: message.into(),
            fields: if kept.is_empty() {
                String::new()
            } else {
                Value::Object(kept).to_string()
            }
            .into(),
        }
    }

    fn bytes(&self) -> usize {
        LINE + self.target.len() + self.message.len() + self.fields.len()
    }
}

fn level(level: tracing::Level) -> &'static str {
    match level {
        tracing::Level::ERROR => "error",
        tracing::Level::WARN => "warn",
        tracing::Level::INFO => "info",
        tracing::Level::DEBUG => "debug",
        tracing::Level::TRACE => "trace",
    }
}

fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most)
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or_default();
    format!("{}…", &text[..end])
}

/// The lines of one service, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Tail {
    /// Counts every line that was ever kept: as long as it is the same, so are the lines.
    pub count: u64,
    /// The lines.
    pub lines: Vec<Arc<Line>>,
}

#[derive(Debug, Default)]
struct Ring {
    count: u64,
    bytes: usize,
    lines: VecDeque<Arc<Line>>,
}

/// The lines of all services; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tails(Arc<Mutex<HashMap<Owner, Ring>>>);

impl Tails {
    pub(crate) fn keep(&self, owner: &Owner, line: Line) {
        let mut rings = self.rings();
        if !rings.contains_key(owner) {
            if rings.len() >= MAX_SERVICES {
                return;
            }
            rings.insert(owner.clone(), Ring::default());
        }
        let Some(ring) = rings.get_mut(owner) else {
            return;
        };
        ring.count += 1;
        ring.bytes += line.bytes();
        ring.lines.push_back(Arc::new(line));
        while ring.lines.len() > MAX_LINES || ring.bytes > MAX_BYTES {
            let Some(oldest) = ring.lines.pop_front() else {
                break;
            };
            ring.bytes -= oldest.bytes();
        }
    }

    /// What there is beyond `count` lines; none when that is all.
    pub(crate) fn beyond(&self, site: &str, service: &str, count: u64) -> Option<Tail> {
        let owner = Owner {
            site: site.into(),
            service: service.into(),
        };
        let rings = self.rings();
        let ring = rings.get(&owner).filter(|ring| ring.count != count)?;
        Some(Tail {
            count: ring.count,
            lines: ring.lines.iter().cloned().collect(),
        })
    }

    fn rings(&self) -> MutexGuard<'_, HashMap<Owner, Ring>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Capture;
    use crate::service_span;

    fn owner() -> Owner {
        Owner {
            site: "core".into(),
            service: "feed".into(),
        }
    }

    #[test]
    fn lines_have_their_fields_and_belong_to_their_service() {
        let capture = Capture::start("debug").unwrap();
        service_span("core", "feed").in_scope(|| {
            tracing::info_span!("process", topic = "asset-pipeline").in_scope(|| {
                tracing::warn!(asset_id = "a1", bytes = 7, "announced");
            });
            untold().in_scope(|| tracing::warn!("passed on"));
        });
        tracing::warn!("of no service");
        let tail = capture.telemetry().tail("core", "feed", 0).unwrap();
        assert_eq!(tail.count, 1);
        let line = &tail.lines[0];
        assert_eq!((line.level, &*line.message), ("warn", "announced"));
        assert!(line.target.starts_with("telemetry::tail") && line.at > 0);
        let fields: Value = serde_json::from_str(&line.fields).unwrap();
        assert_eq!(
            (&fields["asset_id"], &fields["bytes"], &fields["topic"]),
            (&"a1".into(), &7.into(), &"asset-pipeline".into())
        );
        assert!(fields.get("site").is_none(), "{fields}");
        assert!(capture.telemetry().tail("core", "feed", 1).is_none());
        assert!(capture.telemetry().tail("edge", "feed", 0).is_none());
        assert_eq!(capture.with_message("passed on").len(), 1);
    }

    #[test]
    fn what_a_quiet_service_did_is_kept_and_not_written() {
        let capture = Capture::start("warn").unwrap();
        service_span("core", "feed").in_scope(|| {
            tracing::info_span!("process", topic = "t").in_scope(|| tracing::info!("started"));
            tracing::debug!("detail");
        });
        let tail = capture.telemetry().tail("core", "feed", 0).unwrap();
        assert_eq!((tail.count, &*tail.lines[0].message), (1, "started"));
        assert!(tail.lines[0].fields.contains("topic"));
        assert!(capture.lines().is_empty());
    }

    #[test]
    fn a_service_that_logs_without_end_takes_no_more_room() {
        let capture = Capture::start("debug").unwrap();
        service_span("core", "feed").in_scope(|| {
            for number in 0..10_000 {
                tracing::debug!(number, "short");
            }
        });
        let tail = capture.telemetry().tail("core", "feed", 0).unwrap();
        assert_eq!((tail.count, tail.lines.len()), (10_000, MAX_LINES));
        assert!(tail.lines[MAX_LINES - 1].fields.contains("9999"));
        service_span("core", "feed").in_scope(|| {
            for _ in 0..100 {
                let long = "ä".repeat(MAX_BYTES);
                tracing::debug!(a = long, b = long, "{long}");
            }
        });
        let tail = capture.telemetry().tail("core", "feed", 0).unwrap();
        let bytes: usize = tail.lines.iter().map(|line| line.bytes()).sum();
        assert!(bytes <= MAX_BYTES && tail.lines.len() > 5, "{bytes}");
        let tails = Tails::default();
        for number in 0..2 * MAX_SERVICES {
            let owner = Owner {
                site: number.to_string(),
                ..owner()
            };
            tails.keep(&owner, tail.lines[0].as_ref().clone());
        }
        assert_eq!(tails.rings().len(), MAX_SERVICES);
    }
}
