//! Making the keyspace and the tables, one change of the schema at a time.
//!
//! Each step is applied, agreed on by all nodes, then recorded. A crash in between repeats the step, which therefore
//! looks first at what is there. It is meant to be run by one process at a time: services that change the schema side
//! by side make nodes disagree on it.

use std::collections::BTreeMap;
use std::time::Duration;

use scylla::statement::Statement;

use super::patience::{Fault, patiently};
use super::{Cassandra, statements};
use crate::definition::{Catalogue, Change, Step};
use crate::error::{Error, Result};
use crate::session::since_1970;

/// A change of the schema takes its time on a busy cluster.
const TIMEOUT: Duration = Duration::from_secs(60);

impl Cassandra {
    pub(crate) async fn migrate(&self, catalogue: &Catalogue) -> Result<Vec<&'static str>> {
        let table = format!("{}.schema_migrations", self.keyspace);
        if !self
            .there("keyspaces", &[("keyspace_name", &self.keyspace)])
            .await?
        {
            let cql = statements::keyspace(&self.keyspace, &self.replication);
            self.change(&format!("keyspace {}", self.keyspace), &cql).await?;
        }
        if !self.recorded().await? {
            let columns = "name text PRIMARY KEY, statement text, applied_at timestamp";
            self.change(&table, &format!("CREATE TABLE IF NOT EXISTS {table} ({columns})"))
                .await?;
        }
        let missing = catalogue.missing(&self.applied().await?)?;
        for step in &missing {
            self.step(step).await?;
            let cql = format!("INSERT INTO {table} (name, statement, applied_at) VALUES (?, ?, ?)");
            let at = scylla::value::CqlTimestamp(i64::try_from(since_1970().as_millis()).unwrap_or(i64::MAX));
            self.ask(step.name, || async {
                let statement = self.statements.prepared(&self.driver, &cql).await?;
                let written = self
                    .driver
                    .execute_unpaged(&statement, (step.name, &step.text, at))
                    .await;
                written.map(drop).map_err(Fault::from)
            })
            .await?;
        }
        Ok(missing.iter().map(|step| step.name).collect())
    }

    /// The migrations that were applied, with their texts; none where there is no keyspace yet.
    pub(crate) async fn applied(&self) -> Result<BTreeMap<String, String>> {
        if !self.recorded().await? {
            return Ok(BTreeMap::new());
        }
        let cql = format!("SELECT name, statement FROM {}.schema_migrations", self.keyspace);
        self.ask("the look-up in schema_migrations", || async {
            let statement = self.statements.prepared(&self.driver, &cql).await?;
            let found = self.driver.execute_unpaged(&statement, ()).await?;
            let found = found.into_rows_result().map_err(broken)?;
            found
                .rows::<(String, String)>()
                .map_err(broken)?
                .map(|row| row.map_err(broken))
                .collect()
        })
        .await
    }

    async fn step(&self, step: &Step) -> Result<()> {
        match &step.change {
            Change::Create(definition) => {
                self.change(step.name, &statements::create(&self.keyspace, definition))
                    .await
            }
            Change::Add { table, column } => {
                let known = [
                    ("keyspace_name", &self.keyspace),
                    ("table_name", table),
                    ("column_name", &column.name),
                ];
                if self.there("columns", &known).await? {
                    return Ok(());
                }
                self.change(step.name, &statements::add(&self.keyspace, table, column))
                    .await
            }
        }
    }

    async fn recorded(&self) -> Result<bool> {
        let name = "schema_migrations".to_owned();
        self.there(
            "tables",
            &[("keyspace_name", &self.keyspace), ("table_name", &name)],
        )
        .await
    }

    /// Whether the schema has something of that name.
    async fn there(&self, what: &str, key: &[(&str, &String)]) -> Result<bool> {
        let known = key
            .iter()
            .map(|(column, _)| format!("{column} = ?"))
            .collect::<Vec<_>>()
            .join(" AND ");
        let cql = format!("SELECT keyspace_name FROM system_schema.{what} WHERE {known}");
        let values = key.iter().map(|(_, value)| *value).collect::<Vec<_>>();
        self.ask("the look-up in system_schema", || async {
            let statement = self.statements.prepared(&self.driver, &cql).await?;
            let found = self.driver.execute_unpaged(&statement, &values).await?;
            Ok(found.into_rows_result().map_err(broken)?.rows_num() > 0)
        })
        .await
    }

    /// Changes the schema and waits until all nodes agree on it, which the driver does by itself.
    async fn change(&self, migration: &str, cql: &str) -> Result<()> {
        self.ask(migration, || async {
            let mut statement = Statement::new(cql);
            statement.set_request_timeout(Some(TIMEOUT));
            statement.set_is_idempotent(true);
            self.driver
                .query_unpaged(statement, ())
                .await
                .map(drop)
                .map_err(Fault::from)
        })
        .await
    }

    async fn ask<T, F>(&self, migration: &str, work: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let outcome = Box::pin(patiently(TIMEOUT, work)).await;
        outcome.map_err(|fault| Error::Migrate {
            migration: migration.to_owned(),
            retryable: fault.transient,
            source: fault.source,
        })
    }
}

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> Fault {
    Fault {
        transient: false,
        source: error.into(),
    }
}
