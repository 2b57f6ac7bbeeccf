//! The thread that writes.
//!
//! It takes every request that waits, up to a bound, into one transaction, each in a savepoint of its own: one that
//! fails leaves the others alone. Nobody is answered before the commit, which syncs. Between groups, now and then, it
//! sweeps a bounded number of rows whose tombstones have had their time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension, params_from_iter};
use tokio::sync::mpsc;

use super::reader::{applied, now, stamps};
use super::{Reply, retryable, statements, sweep};
use crate::definition::{Catalogue, Change};
use crate::error::{Error, Result};
use crate::merge::Stamps;
use crate::plan::Mutation;
use crate::session::since_1970;

/// How many requests one commit takes with it.
const GROUP: usize = 256;
/// How often it looks for rows to sweep; at once where the last look left some.
const SWEEP: Duration = Duration::from_secs(60);

/// What the thread is asked for.
#[derive(Debug)]
pub(super) enum Job {
    Apply {
        operation: &'static str,
        mutations: Vec<Mutation>,
        reply: Reply<()>,
    },
    Migrate {
        catalogue: Catalogue,
        reply: Reply<Vec<&'static str>>,
    },
}

/// Works until every sender is gone and what they sent is done.
pub(super) fn run(mut connection: Connection, mut jobs: mpsc::Receiver<Job>) {
    let mut swept = None::<Instant>;
    let mut group = Vec::new();
    while jobs.blocking_recv_many(&mut group, GROUP) > 0 {
        let mut writes = Vec::new();
        for job in group.drain(..) {
            match job {
                Job::Apply {
                    operation,
                    mutations,
                    reply,
                } => writes.push(Write {
                    operation,
                    mutations,
                    reply,
                }),
                Job::Migrate { catalogue, reply } => drop(reply.send(migrate(&mut connection, &catalogue))),
            }
        }
        commit(&mut connection, writes);
        if swept.is_none_or(|at| at.elapsed() >= SWEEP) {
            match sweep::step(&mut connection, now()) {
                Ok(more) => swept = (!more).then(Instant::now),
                Err(error) => {
                    tracing::warn!(error = %error, "sweep of expired rows failed");
                    swept = Some(Instant::now());
                }
            }
        }
    }
}

struct Write {
    operation: &'static str,
    mutations: Vec<Mutation>,
    reply: Reply<()>,
}

/// Applies a group in one transaction and answers each of it.
fn commit(connection: &mut Connection, group: Vec<Write>) {
    if group.is_empty() {
        return;
    }
    let outcome = transact(connection, &group);
    for (at, write) in group.into_iter().enumerate() {
        let result = match &outcome {
            Ok(refused) => match refused.get(&at) {
                Some(why) => Err(why.refusal(&write)),
                None => Ok(()),
            },
            Err(why) => Err(why.refusal(&write)),
        };
        // Whoever asked may have gone away.
        drop(write.reply.send(result));
    }
}

/// Why writes were not made; told to each of them.
struct Refused {
    text: String,
    retryable: bool,
}

impl Refused {
    fn refusal(&self, write: &Write) -> Error {
        let table = write
            .mutations
            .first()
            .map(|mutation| mutation.definition.name.clone());
        Error::Operation {
            operation: write.operation,
            table: table.unwrap_or_default(),
            retryable: self.retryable,
            source: self.text.clone().into(),
        }
    }
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Self {
        Self {
            retryable: retryable(&error),
            text: error.to_string(),
        }
    }
}

fn transact(connection: &mut Connection, group: &[Write]) -> Result<BTreeMap<usize, Refused>, Refused> {
    let mut refused = BTreeMap::new();
    let mut transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let now = now();
    for (at, write) in group.iter().enumerate() {
        let savepoint = transaction.savepoint()?;
        match write
            .mutations
            .iter()
            .try_for_each(|mutation| merge(&savepoint, mutation, now))
        {
            Ok(()) => savepoint.commit()?,
            // Dropped, the savepoint rolls back.
            Err(error) => {
                refused.insert(at, error.into());
            }
        }
    }
    transaction.commit()?;
    Ok(refused)
}

/// Merges one write into its row.
fn merge(connection: &Connection, mutation: &Mutation, now: i64) -> rusqlite::Result<()> {
    let definition = &mutation.definition;
    let mut find = connection.prepare_cached(&statements::find(definition))?;
    let found = find.query_row(params_from_iter(&mutation.key), |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
    });
    let found = found.optional()?;
    let (row, before) = found.map_or((None, None), |(row, text)| (Some(row), Some(text)));
    let mut known = before.as_deref().map_or_else(|| Ok(Stamps::default()), stamps)?;
    let mut changes = known.apply(mutation, now, |place| {
        let mut value = connection.prepare_cached(&statements::value_of(definition, place))?;
        let kind = definition.columns[place].kind;
        value.query_row([row], |found| statements::value(kind, found.get_ref(0)?))
    })?;
    // Ascending, so that the same columns make the same statement.
    changes.sort_by_key(|(place, _)| *place);
    let text = serde_json::to_string(&known)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    if changes.is_empty() && before.as_deref() == Some(text.as_str()) {
        return Ok(());
    }
    let due = known.due(now);
    let places = changes.iter().map(|(place, _)| *place);
    let values = changes.iter().map(|(_, value)| value as &dyn ToSql);
    let written = match &row {
        Some(row) => {
            let mut update = connection.prepare_cached(&statements::update(definition, places))?;
            update.execute(params_from_iter(values.chain([&text as &dyn ToSql, &due, row])))?
        }
        None => {
            let mut insert = connection.prepare_cached(&statements::insert(definition, places))?;
            let key = mutation.key.iter().map(|value| value as &dyn ToSql);
            insert.execute(params_from_iter(
                key.chain(values).chain([&text as &dyn ToSql, &due]),
            ))?
        }
    };
    debug_assert_eq!(written, 1);
    Ok(())
}

/// Applies what is missing, all of it or nothing.
fn migrate(connection: &mut Connection, catalogue: &Catalogue) -> Result<Vec<&'static str>> {
    let fault = |migration: &str, error: rusqlite::Error| Error::Migrate {
        migration: migration.to_owned(),
        retryable: retryable(&error),
        source: error.into(),
    };
    let whole = |error| fault("the migrations", error);
    let transaction = connection
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .map_err(whole)?;
    let missing = catalogue.missing(&applied(&transaction).map_err(whole)?)?;
    for step in &missing {
        let sql = match &step.change {
            Change::Create(definition) => statements::create(definition),
            Change::Add { table, column } => statements::add(table, column),
        };
        let at = i64::try_from(since_1970().as_millis()).unwrap_or(i64::MAX);
        let record = "INSERT INTO schema_migrations (name, statement, applied_at) VALUES (?, ?, ?)";
        let done = transaction.execute_batch(&sql);
        let done = done.and_then(|()| transaction.execute(record, (step.name, &step.text, at)));
        done.map_err(|error| fault(step.name, error))?;
    }
    transaction.commit().map_err(whole)?;
    Ok(missing.iter().map(|step| step.name).collect())
}
