//! What a table is: its columns, their types and its key, as the CQL files say.
//!
//! The files hold the subset of CQL that both engines can keep to: one `CREATE TABLE IF NOT EXISTS` or one
//! `ALTER TABLE … ADD` each. All clustering columns run in the same direction, so that a page is one comparison.

mod parser;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use schemas::Migration;

use crate::error::{Error, Result};

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are CQL's")]
pub enum Kind {
    Text,
    Int,
    BigInt,
    Double,
    Boolean,
    Blob,
    Timestamp,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Int => "int",
            Self::BigInt => "bigint",
            Self::Double => "double",
            Self::Boolean => "boolean",
            Self::Blob => "blob",
            Self::Timestamp => "timestamp",
        })
    }
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: Kind,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Its name.
    pub name: String,
    /// Its columns: the partition key, then the clustering key, then the others as they were added.
    pub columns: Vec<Column>,
    /// How many of the columns are the partition key.
    pub partition_columns: usize,
    /// How many after those are the clustering key.
    pub clustering_columns: usize,
    /// Whether the clustering order is from the largest down.
    pub descending: bool,
}

impl Definition {
    /// How many columns the whole primary key has; they are the first ones.
    pub fn key_columns(&self) -> usize {
        self.partition_columns + self.clustering_columns
    }

    /// Where a column is.
    pub(crate) fn position(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|known| known.name == column)
    }
}

/// What one migration does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Create(Definition),
    Add { table: String, column: Column },
}

/// One migration, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// The statement without its comments and spacing: what is recorded, and must not change later.
    pub(crate) text: String,
    pub(crate) change: Change,
}

/// All migrations of a site, and what the tables are once all are applied.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalogue {
    pub(crate) steps: Vec<Step>,
    pub(crate) tables: BTreeMap<String, Arc<Definition>>,
}

impl Catalogue {
    pub(crate) fn read(migrations: &[Migration]) -> Result<Self> {
        let mut tables = BTreeMap::<String, Definition>::new();
        let mut steps = Vec::<Step>::new();
        for migration in migrations {
            let fault = |(line, problem)| Error::Definition {
                migration: migration.name.to_owned(),
                line,
                problem,
            };
            if steps.iter().any(|step| step.name == migration.name) {
                return Err(fault((1, "another migration has this name".to_owned())));
            }
            let (change, text) = parser::parse(migration.cql).map_err(fault)?;
            match &change {
                Change::Create(definition) => {
                    if tables
                        .insert(definition.name.clone(), definition.clone())
                        .is_some()
                    {
                        return Err(fault((1, format!("table {} is there already", definition.name))));
                    }
                }
                Change::Add { table, column } => {
                    let known = tables
                        .get_mut(table)
                        .ok_or_else(|| fault((1, format!("no table {table} yet"))))?;
                    if known.position(&column.name).is_some() {
                        return Err(fault((
                            1,
                            format!("table {table} has column {} already", column.name),
                        )));
                    }
                    known.columns.push(column.clone());
                }
            }
            steps.push(Step {
                name: migration.name,
                text,
                change,
            });
        }
        let tables = tables
            .into_iter()
            .map(|(name, definition)| (name, Arc::new(definition)))
            .collect();
        Ok(Self { steps, tables })
    }

    /// The steps that are not in `applied` (name and text), in order; an error when one has another text there.
    pub(crate) fn missing(&self, applied: &BTreeMap<String, String>) -> Result<Vec<Step>> {
        let mut missing = Vec::new();
        for step in &self.steps {
            match applied.get(step.name) {
                None => missing.push(step.clone()),
                Some(text) if *text == step.text => {}
                Some(_) => {
                    return Err(Error::MigrationChanged {
                        migration: step.name.to_owned(),
                    });
                }
            }
        }
        Ok(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_projects_own_tables_are_understood() {
        let edge = Catalogue::read(schemas::EDGE_TABLES).unwrap();
        let assets = &edge.tables["assets"];
        assert_eq!(
            (
                assets.partition_columns,
                assets.clustering_columns,
                assets.descending
            ),
            (1, 1, false)
        );
        assert_eq!(
            assets.columns[0],
            Column {
                name: "bucket".into(),
                kind: Kind::Int
            }
        );
        assert_eq!(
            assets.columns[assets.position("preview").unwrap()].kind,
            Kind::Blob
        );
        let core = Catalogue::read(schemas::CORE_TABLES).unwrap();
        assert_eq!(core.tables["site_requests"].partition_columns, 2);
        assert_eq!(core.tables.len(), 7);
        assert!(core.tables["audit"].descending && edge.tables["audit"].descending);
    }

    #[test]
    fn a_changed_comment_is_not_a_changed_migration() {
        let read = |cql| {
            Catalogue::read(&[Migration { name: "001", cql }]).unwrap().steps[0]
                .text
                .clone()
        };
        let first = read("-- one\nCREATE TABLE IF NOT EXISTS t (a int, PRIMARY KEY ((a)));");
        assert_eq!(
            first,
            read("/* two */ create table if not exists T\n(a INT,\n PRIMARY KEY ((a)))")
        );
        assert_ne!(
            first,
            read("CREATE TABLE IF NOT EXISTS t (a text, PRIMARY KEY ((a)))")
        );
    }

    #[test]
    fn a_column_can_be_added_once() {
        let create = Migration {
            name: "001",
            cql: "CREATE TABLE IF NOT EXISTS t (a int, PRIMARY KEY ((a)))",
        };
        let add = Migration {
            name: "002",
            cql: "ALTER TABLE t ADD b text;",
        };
        let again = Migration { name: "003", ..add };
        let both = Catalogue::read(&[create, add]).unwrap();
        assert_eq!(
            both.tables["t"].columns[1],
            Column {
                name: "b".into(),
                kind: Kind::Text
            }
        );
        assert!(
            Catalogue::read(&[add])
                .unwrap_err()
                .to_string()
                .contains("no table t yet")
        );
        assert!(
            Catalogue::read(&[create, add, again])
                .unwrap_err()
                .to_string()
                .contains("has column b already")
        );
    }
}
