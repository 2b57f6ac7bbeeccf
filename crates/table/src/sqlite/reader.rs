//! The thread that reads. Each read sees what was committed when it began.

use std::collections::BTreeMap;

use rusqlite::types::Type;
use rusqlite::{Connection, params_from_iter};
use tokio::sync::mpsc;

use super::{Reply, failed, statements};
use crate::error::{Error, Result};
use crate::merge::Stamps;
use crate::plan::Scan;
use crate::row::Row;
use crate::session::since_1970;
use crate::value::Value;

/// What the thread is asked for.
#[derive(Debug)]
pub(super) enum Job {
    Scan {
        operation: &'static str,
        scan: Scan,
        reply: Reply<Vec<Row>>,
    },
    Applied {
        reply: Reply<BTreeMap<String, String>>,
    },
}

/// Works until every sender is gone.
pub(super) fn run(connection: Connection, mut jobs: mpsc::Receiver<Job>) {
    while let Some(job) = jobs.blocking_recv() {
        // Whoever asked may have gone away.
        match job {
            Job::Scan {
                operation,
                scan,
                reply,
            } => {
                let rows = rows(&connection, &scan, now());
                drop(reply.send(rows.map_err(|error| failed(operation, &scan.definition.name, error))));
            }
            Job::Applied { reply } => drop(reply.send(looked_up(&connection))),
        }
    }
}

/// The second by which expiry is decided.
pub(super) fn now() -> i64 {
    i64::try_from(since_1970().as_secs()).unwrap_or(i64::MAX)
}

fn looked_up(connection: &Connection) -> Result<BTreeMap<String, String>> {
    applied(connection).map_err(|error| {
        let retryable = super::retryable(&error);
        Error::Migrate {
            migration: "the look-up in schema_migrations".to_owned(),
            retryable,
            source: error.into(),
        }
    })
}

/// The migrations that were applied, with their texts.
pub(super) fn applied(connection: &Connection) -> rusqlite::Result<BTreeMap<String, String>> {
    let mut statement = connection.prepare("SELECT name, statement FROM schema_migrations")?;
    let rows = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

pub(super) fn rows(connection: &Connection, scan: &Scan, now: i64) -> rusqlite::Result<Vec<Row>> {
    let definition = &scan.definition;
    let mut statement = connection.prepare_cached(&statements::select(scan))?;
    let bound = scan
        .partition
        .iter()
        .chain(&scan.prefix)
        .chain(scan.after.iter().flatten());
    let mut found = statement.query(params_from_iter(bound))?;
    let mut rows = Vec::new();
    while rows.len() < scan.limit
        && let Some(row) = found.next()?
    {
        let stamps = stamps(row.get_ref(0)?.as_str()?)?;
        if !stamps.present(now) {
            continue;
        }
        let mut values = Vec::with_capacity(scan.columns.len());
        for (at, place) in scan.columns.iter().enumerate() {
            let column = &definition.columns[*place];
            let there = *place < definition.key_columns() || stamps.live(&column.name, now);
            values.push(if there {
                statements::value(column.kind, row.get_ref(at + 1)?)?
            } else {
                Value::Null
            });
        }
        rows.push(Row::new(scan.names.clone(), values));
    }
    Ok(rows)
}

/// Reads the text of a row's stamps.
pub(super) fn stamps(text: &str) -> rusqlite::Result<Stamps> {
    serde_json::from_str(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, error.into()))
}
