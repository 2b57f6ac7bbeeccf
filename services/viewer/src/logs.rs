//! The last log lines of the site's services, as each instance passed them on, kept as they came.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::broker::{self, Record};
use common::schemas::{self, LogLine, ServiceLog, topic};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::tape;

/// More instances than any site has; beyond it those that were silent longest are let go.
const MAX_INSTANCES: usize = 64;
/// The largest record that is kept: more than an instance passes on.
const MAX_BYTES: usize = 64 * 1024;

/// An instance's newest word, as its record says it.
#[derive(Debug)]
struct Word {
    as_of: i64,
    record: Box<[u8]>,
}

/// What each instance passed on last.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    known: Mutex<BTreeMap<String, Word>>,
}

/// Says that a service has new lines.
#[derive(Debug, Serialize)]
struct News<'a> {
    service: &'a str,
    instance: &'a str,
    as_of: i64,
}

/// One line of a log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LineView {
    at: i64,
    /// error, warn, info, debug or trace.
    level: String,
    /// The module.
    target: String,
    message: String,
    /// What else it says, by name.
    fields: BTreeMap<String, String>,
}

/// The last lines of one instance.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InstanceLogs {
    instance: String,
    /// When it passed them on; one that logs nothing passes nothing on.
    as_of: i64,
    /// Oldest first.
    lines: Vec<LineView>,
}

impl Logs {
    fn hear(&self, record: &Record, since: i64) -> Option<ServiceLog> {
        let key = String::from_utf8_lossy(record.key.as_deref()?).into_owned();
        let Some(value) = record.value.as_deref() else {
            self.known().remove(&key);
            return None;
        };
        let log = schemas::decode::<ServiceLog>(value).ok()?;
        if value.len() > MAX_BYTES || key != format!("{}/{}", log.service, log.instance) {
            return None;
        }
        let word = Word {
            as_of: log.as_of,
            record: value.into(),
        };
        let mut known = self.known();
        known.insert(key, word);
        while known.len() > MAX_INSTANCES {
            let oldest = known.iter().min_by_key(|(_, word)| word.as_of);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                break;
            };
            known.remove(&oldest);
        }
        (log.as_of >= since).then_some(log)
    }

    /// The last lines of a service's instances, at most `limit` of each, the instance that spoke last first.
    pub(crate) fn of(&self, service: &str, limit: usize) -> Vec<InstanceLogs> {
        let known = self.known();
        let prefix = format!("{service}/");
        let own = known.iter().filter(|(key, _)| key.starts_with(&prefix));
        let mut all: Vec<_> = own
            .filter_map(|(_, word)| schemas::decode::<ServiceLog>(&word.record).ok())
            .map(|log| {
                let skip = log.lines.len().saturating_sub(limit);
                InstanceLogs {
                    instance: log.instance,
                    as_of: log.as_of,
                    lines: log.lines.into_iter().skip(skip).map(view).collect(),
                }
            })
            .collect();
        all.sort_by_key(|one| std::cmp::Reverse(one.as_of));
        all
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Word>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn view(line: LogLine) -> LineView {
    LineView {
        at: line.at,
        level: line.level,
        target: line.target,
        message: line.message,
        fields: line.fields,
    }
}

/// Follows the site's logs from their beginning until an error; a site made before there were any is waited for.
pub(crate) async fn follow(app: &App) -> Result<(), broker::Error> {
    let mut reader = tape::from_the_beginning(&app.broker, topic::SERVICE_LOG).await?;
    loop {
        for record in reader.next(100, Duration::from_secs(10)).await? {
            // What was said before this process began is no news.
            if let Some(log) = app.logs.hear(&record, app.started_at) {
                let news = News {
                    service: &log.service,
                    instance: &log.instance,
                    as_of: log.as_of,
                };
                app.hub.publish("logs", &news);
            }
        }
    }
}
