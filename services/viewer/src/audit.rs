//! Who asked for what: rows of table `audit`, one partition a day (UTC), newest first.
//!
//! A row is written before what it tells of, as `asked`, and again after it, as `done`, `refused: …` or `failed: …`. One
//! that stays `asked` is of a change that a crash cut off, which may have happened.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::chassis::now_ms;
use common::table::{self, Row, Select, Value, Write};
use common::telemetry;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::app::App;
use crate::problem::{Problem, Result};
use crate::sign_in::Role;

/// How many refusals of callers that nobody knows are written down in a minute; the log counts the others.
const STRANGERS: u32 = 30;
/// How many days one search walks.
const DAYS: usize = 31;
/// How many entries one search looks at.
const LOOKED_AT: usize = 10_000;
const PAGE: usize = 500;
const LONGEST: usize = 300;

/// What somebody asks for.
#[derive(Debug)]
pub(crate) struct Deed {
    pub(crate) user: Option<String>,
    pub(crate) role: Option<Role>,
    pub(crate) address: IpAddr,
    pub(crate) action: &'static str,
    pub(crate) target: Option<String>,
    pub(crate) detail: Option<String>,
}

/// An entry whose outcome is not known yet.
#[derive(Debug)]
pub(crate) struct Entry {
    day: String,
    at: i64,
    id: String,
}

/// Refusals of strangers within the minute.
#[derive(Debug, Default)]
pub(crate) struct Strangers(Mutex<Option<(Instant, u32)>>);

impl Strangers {
    fn admit(&self, now: Instant) -> bool {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = counted.filter(|(since, _)| now.duration_since(*since) < Duration::from_secs(60));
        let (since, count) = recent.unwrap_or((now, 0));
        *counted = Some((since, count.saturating_add(1)));
        count < STRANGERS
    }
}

/// What may be told of a request's body: what it names, and what it says. A secret is in no list of names.
pub(crate) fn told(body: &[u8]) -> (Option<String>, Option<String>) {
    const NAMES: [&str; 4] = ["name", "site", "user", "service"];
    const SAYS: [&str; 19] = [
        "reason",
        "expires_at",
        "log_level",
        "level",
        "role",
        "disabled",
        "certificate_sha256",
        "partitions",
        "compacted",
        "broker_url",
        "depot_url",
        "to",
        "priority",
        "budget",
        "routes",
        "allow",
        "lost",
        "as_configured",
        "by",
    ];
    let Ok(serde_json::Value::Object(body)) = serde_json::from_slice(body) else {
        return (None, None);
    };
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => cut(text),
        other => cut(&other.to_string()),
    };
    let named = NAMES.iter().find_map(|name| body.get(*name).map(text));
    let mut says: Vec<String> = SAYS
        .iter()
        .filter_map(|name| Some(format!("{name}: {}", text(body.get(*name)?))))
        .collect();
    if body.contains_key("password") {
        says.push("password: set".to_owned());
    }
    (named, (!says.is_empty()).then(|| cut(&says.join(", "))))
}

fn cut(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(LONGEST).collect()
}

fn utc(at: i64) -> jiff::civil::Date {
    let at = Timestamp::from_millisecond(at).unwrap_or(Timestamp::UNIX_EPOCH);
    at.to_zoned(TimeZone::UTC).date()
}

fn start(day: jiff::civil::Date) -> i64 {
    day.to_zoned(TimeZone::UTC)
        .map_or(0, |start| start.timestamp().as_millisecond())
}

async fn write(app: &App, deed: Deed, outcome: &str) -> Result<Entry, table::Error> {
    let at = now_ms();
    let entry = Entry {
        day: utc(at).to_string(),
        at,
        id: format!("{:016x}", rand::random::<u64>()),
    };
    let write = Write::to("audit")
        .set("day", &entry.day)
        .set("at", Value::timestamp(entry.at))
        .set("id", &entry.id)
        .set("user_name", deed.user.map(|user| cut(&user)))
        .set("role", deed.role.map(Role::as_str))
        .set("address", deed.address.to_string())
        .set("action", deed.action)
        .set("target", deed.target.map(|target| cut(&target)))
        .set("detail", deed.detail)
        .set("outcome", cut(outcome));
    app.table.upsert(write.ttl(*app.settings.audit_retention)).await?;
    app.audited.store(true, Ordering::Relaxed);
    Ok(entry)
}

/// Writes down what is about to happen; what cannot be written down does not happen.
pub(crate) async fn begin(app: &App, deed: Deed) -> Result<Entry> {
    Ok(write(app, deed, "asked").await?)
}

/// Writes down what became of it.
pub(crate) async fn finish(app: &App, entry: Entry, outcome: &str) {
    let write = Write::to("audit")
        .set("day", &entry.day)
        .set("at", Value::timestamp(entry.at))
        .set("id", &entry.id)
        .set("outcome", cut(outcome));
    let written = app.table.upsert(write.ttl(*app.settings.audit_retention)).await;
    app.audited.store(true, Ordering::Relaxed);
    if let Err(error) = written {
        tracing::warn!(id = entry.id, error = %telemetry::chain(&error), "audit entry stays as asked");
    }
}

/// Writes down what somebody may not do.
pub(crate) async fn refused(app: &App, deed: Deed, problem: &Problem) -> Result<()> {
    write(app, deed, &format!("refused: {problem}")).await?;
    Ok(())
}

/// Writes down what somebody unknown tried, unless strangers flood the table.
pub(crate) async fn stranger(app: &App, deed: Deed, problem: &Problem) {
    if !app.strangers.admit(Instant::now()) {
        tracing::warn!(action = deed.action, address = %deed.address, "refused, and not written down: too many");
        return;
    }
    if let Err(error) = write(app, deed, &format!("refused: {problem}")).await {
        tracing::warn!(error = %telemetry::chain(&error), "refusal is not written down");
    }
}

/// What to search for.
#[derive(Debug, Default)]
pub(crate) struct Search {
    /// Only what came before: a time, or the end of the page before.
    pub(crate) before: Option<Place>,
    pub(crate) user: Option<String>,
    pub(crate) action: Option<String>,
    pub(crate) words: Option<String>,
    pub(crate) limit: usize,
}

/// A place between entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    at: i64,
    id: String,
}

impl Place {
    /// When what lies here was written down.
    pub(crate) fn at(&self) -> i64 {
        self.at
    }

    /// Reads `<at>` or `<at>.<id>`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (at, id) = text.split_once('.').unwrap_or((text, ""));
        let at: i64 = at.parse().ok()?;
        let plain = id.len() <= 32 && id.bytes().all(|b| b.is_ascii_alphanumeric());
        let known = Timestamp::from_millisecond(at).is_ok();
        (plain && known).then(|| Self {
            at,
            id: id.to_owned(),
        })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.id.as_str() {
            "" => write!(f, "{}", self.at),
            id => write!(f, "{}.{id}", self.at),
        }
    }
}

impl Search {
    fn wants(&self, app: &App, row: &Row) -> bool {
        let is = |column, wanted: &Option<String>| {
            wanted
                .as_deref()
                .is_none_or(|wanted| row.text(column) == Some(wanted))
        };
        let has = |words: &String| {
            let words = words.to_lowercase();
            ["user_name", "address", "action", "target", "outcome", "detail"]
                .into_iter()
                .filter_map(|column| row.text(column))
                .chain(title(app, row).as_deref())
                .any(|text| text.to_lowercase().contains(&words))
        };
        is("user_name", &self.user) && is("action", &self.action) && self.words.as_ref().is_none_or(has)
    }
}

/// The title of the asset that an entry is about, if it is about one that is known.
pub(crate) fn title(app: &App, row: &Row) -> Option<Box<str>> {
    row.text("action").filter(|action| action.starts_with("asset."))?;
    let id = row.text("target")?.parse().ok()?;
    Some(app.index.get(&id)?.title)
}

/// Finds entries, newest first; the second is where to go on, none when there is nothing older.
pub(crate) async fn search(app: &App, search: &Search) -> Result<(Vec<Row>, Option<Place>), table::Error> {
    let now = now_ms();
    let retention = i64::try_from(app.settings.audit_retention.as_millis()).unwrap_or(i64::MAX);
    let oldest = utc(now.saturating_sub(retention));
    // Entries of another process may be a little ahead of this clock.
    let from = search.before.clone().unwrap_or(Place {
        at: now + 60_000,
        id: String::new(),
    });
    let mut day = utc(from.at);
    let mut after = Some(from);
    let (mut found, mut looked) = (Vec::new(), 0);
    for _ in 0..DAYS {
        loop {
            let mut select = Select::from("audit")
                .partition("day", day.to_string())
                .limit(PAGE);
            if let Some(place) = &after {
                select = select.after(vec![Value::timestamp(place.at), Value::from(&place.id)]);
            }
            let rows = app.table.select(select).await?;
            let last = rows.len() < PAGE;
            for row in rows {
                looked += 1;
                let place = Place {
                    at: row.timestamp("at").unwrap_or_default(),
                    id: row.text("id").unwrap_or_default().to_owned(),
                };
                if search.wants(app, &row) {
                    found.push(row);
                }
                if found.len() >= search.limit || looked >= LOOKED_AT {
                    return Ok((found, Some(place)));
                }
                after = Some(place);
            }
            if last {
                break;
            }
        }
        if day <= oldest {
            return Ok((found, None));
        }
        after = None;
        day = day.saturating_sub(1.day());
    }
    let next = Place {
        at: start(day) + 24 * 3600 * 1000,
        id: String::new(),
    };
    Ok((found, Some(next)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_a_body_is_never_a_secret() {
        let body = br#"{"name":"kim","role":"field","password":"hunter22222","ticket":"t","enrolment":"-----BEGIN"}"#;
        let (named, says) = told(body);
        assert_eq!(named.as_deref(), Some("kim"));
        assert_eq!(says.as_deref(), Some("role: field, password: set"));
        assert_eq!(told(b"{}"), (None, None));
        assert_eq!(told(b"nonsense"), (None, None));
        let (_, says) = told(br#"{"by":"kim","routes":{"news":"paused"},"budget":{"cap":null},"as_configured":["budget/share"]}"#);
        let link =
            r#"budget: {"cap":null}, routes: {"news":"paused"}, as_configured: ["budget/share"], by: kim"#;
        assert_eq!(says.as_deref(), Some(link));
        let (_, says) = told(format!("{{\"reason\":\"{}\\u0007\"}}", "x".repeat(900)).as_bytes());
        assert_eq!(says.unwrap().len(), LONGEST);
    }

    #[test]
    fn places_are_read_as_they_are_written() {
        for text in ["1763683200000", "1763683200000.00ff"] {
            assert_eq!(Place::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "x", "1.-", "99999999999999999"] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
        assert_eq!(utc(1_763_683_200_000).to_string(), "2025-11-21");
        assert_eq!(start(utc(1_763_683_200_001)), 1_763_683_200_000);
    }

    #[test]
    fn strangers_cannot_fill_the_table() {
        let strangers = Strangers::default();
        let now = Instant::now();
        assert_eq!((0..100).filter(|_| strangers.admit(now)).count(), 30);
        assert!(strangers.admit(now + Duration::from_secs(61)));
    }
}
