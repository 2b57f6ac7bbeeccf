//! The CQL that definitions turn into, and the statements prepared from it.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use scylla::client::session::Session as Driver;
use scylla::statement::Statement;
use scylla::statement::prepared::PreparedStatement;

use super::patience::Fault;
use crate::definition::{Column, Definition};
use crate::plan::Scan;

/// How many statements are kept. A program has a few for each table.
const KEPT: usize = 256;
/// How many rows a page carries.
const PAGE: i32 = 500;

/// What was prepared, by its text.
#[derive(Debug, Default)]
pub(super) struct Statements {
    prepared: RwLock<BTreeMap<String, PreparedStatement>>,
}

impl Statements {
    /// Prepares the statement unless it is.
    pub(super) async fn prepared(&self, driver: &Driver, cql: &str) -> Result<PreparedStatement, Fault> {
        if let Some(statement) = self
            .prepared
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(cql)
        {
            return Ok(statement.clone());
        }
        let mut statement = driver.prepare(Statement::new(cql).with_page_size(PAGE)).await?;
        statement.set_is_idempotent(true);
        let mut prepared = self.prepared.write().unwrap_or_else(PoisonError::into_inner);
        if prepared.len() >= KEPT {
            prepared.clear();
        }
        prepared.insert(cql.to_owned(), statement.clone());
        Ok(statement)
    }
}

/// `INSERT` of every column: those that a write does not name are left unset, which leaves them as they are.
pub(super) fn insert(keyspace: &str, definition: &Definition) -> String {
    let marks = vec!["?"; definition.columns.len()].join(", ");
    let names = names(&definition.columns, ", ", "");
    format!(
        "INSERT INTO {keyspace}.\"{}\" ({names}) VALUES ({marks}) USING TIMESTAMP ? AND TTL ?",
        definition.name
    )
}

pub(super) fn delete(keyspace: &str, definition: &Definition) -> String {
    let key = names(&definition.columns[..definition.key_columns()], " AND ", " = ?");
    format!(
        "DELETE FROM {keyspace}.\"{}\" USING TIMESTAMP ? WHERE {key}",
        definition.name
    )
}

pub(super) fn select(keyspace: &str, scan: &Scan) -> String {
    let definition = &scan.definition;
    let columns = scan
        .columns
        .iter()
        .map(|place| definition.columns[*place].clone())
        .collect::<Vec<_>>();
    let fixed = definition.partition_columns + scan.prefix.len();
    let rest = &definition.columns[fixed..definition.key_columns()];
    let mut cql = format!(
        "SELECT {} FROM {keyspace}.\"{}\" WHERE {}",
        names(&columns, ", ", ""),
        definition.name,
        names(&definition.columns[..fixed], " AND ", " = ?"),
    );
    if scan.after.is_some() {
        let than = if scan.ascending() { '>' } else { '<' };
        let marks = vec!["?"; rest.len()].join(", ");
        cql.push_str(&format!(" AND ({}) {than} ({marks})", names(rest, ", ", "")));
    }
    if scan.backwards && !rest.is_empty() {
        let clustering = &definition.columns[definition.partition_columns..definition.key_columns()];
        let direction = if scan.ascending() { " ASC" } else { " DESC" };
        cql.push_str(&format!(" ORDER BY {}", names(clustering, ", ", direction)));
    }
    cql.push_str(" LIMIT ?");
    cql
}

pub(super) fn create(keyspace: &str, definition: &Definition) -> String {
    let columns = definition
        .columns
        .iter()
        .map(typed)
        .collect::<Vec<_>>()
        .join(", ");
    let (partition, rest) = definition.columns.split_at(definition.partition_columns);
    let clustering = &rest[..definition.clustering_columns];
    let comma = if clustering.is_empty() { "" } else { ", " };
    let mut cql = format!(
        "CREATE TABLE IF NOT EXISTS {keyspace}.\"{}\" ({columns}, PRIMARY KEY (({}){comma}{}))",
        definition.name,
        names(partition, ", ", ""),
        names(clustering, ", ", ""),
    );
    if definition.descending {
        cql.push_str(&format!(
            " WITH CLUSTERING ORDER BY ({})",
            names(clustering, ", ", " DESC")
        ));
    }
    cql
}

pub(super) fn add(keyspace: &str, table: &str, column: &Column) -> String {
    format!("ALTER TABLE {keyspace}.\"{table}\" ADD {}", typed(column))
}

/// `CREATE KEYSPACE`: SimpleStrategy for a bare replication factor, else copies by datacenter.
pub(super) fn keyspace(keyspace: &str, replication: &BTreeMap<String, u32>) -> String {
    let simple = replication.len() == 1 && replication.contains_key("replication_factor");
    let class = if simple {
        "SimpleStrategy"
    } else {
        "NetworkTopologyStrategy"
    };
    let copies = replication
        .iter()
        .map(|(name, copies)| format!(", '{name}': {copies}"))
        .collect::<String>();
    format!("CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {{'class': '{class}'{copies}}}")
}

fn names(columns: &[Column], between: &str, after: &str) -> String {
    columns
        .iter()
        .map(|column| format!("\"{}\"{after}", column.name))
        .collect::<Vec<_>>()
        .join(between)
}

fn typed(column: &Column) -> String {
    format!("\"{}\" {}", column.name, column.kind)
}

#[cfg(test)]
mod tests {
    use schemas::Migration;

    use super::*;
    use crate::definition::Catalogue;
    use crate::write::Select;

    #[test]
    fn definitions_become_cql() {
        let cql = "CREATE TABLE IF NOT EXISTS t (v blob, p int, a text, b int, PRIMARY KEY ((p), a, b)) \
                   WITH CLUSTERING ORDER BY (a DESC, b DESC)";
        let catalogue = Catalogue::read(&[Migration { name: "001", cql }]).unwrap();
        let t = &catalogue.tables["t"];
        assert_eq!(
            create("k", t),
            "CREATE TABLE IF NOT EXISTS k.\"t\" (\"p\" int, \"a\" text, \"b\" int, \"v\" blob, \
             PRIMARY KEY ((\"p\"), \"a\", \"b\")) WITH CLUSTERING ORDER BY (\"a\" DESC, \"b\" DESC)"
        );
        assert_eq!(
            insert("k", t),
            "INSERT INTO k.\"t\" (\"p\", \"a\", \"b\", \"v\") VALUES (?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?"
        );
        let page = Select::from("t")
            .partition("p", 1)
            .prefix("a", "x")
            .columns(&["v"])
            .descending();
        let page = page.after(vec!["x".into(), 1.into()]);
        assert_eq!(
            select("k", &Scan::partition(t, &page).unwrap()),
            "SELECT \"v\" FROM k.\"t\" WHERE \"p\" = ? AND \"a\" = ? AND (\"b\") > (?) \
             ORDER BY \"a\" ASC, \"b\" ASC LIMIT ?"
        );
        let two = BTreeMap::from([("a".to_owned(), 3), ("b".to_owned(), 2)]);
        assert!(keyspace("k", &two).ends_with("{'class': 'NetworkTopologyStrategy', 'a': 3, 'b': 2}"));
    }
}
