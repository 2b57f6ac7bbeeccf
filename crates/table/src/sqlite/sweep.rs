//! Forgetting: values that have expired, and tombstones that have had their time.

use rusqlite::{Connection, params_from_iter};

use super::reader::stamps;

/// How many rows of each table one step looks at.
const STEP: usize = 256;

/// Sweeps some rows of every table that are due at second `now`; returns whether more are.
pub(super) fn step(connection: &mut Connection, now: i64) -> rusqlite::Result<bool> {
    let mut more = false;
    for table in tables(connection)? {
        let due = format!("SELECT rowid, \"_stamps\" FROM \"{table}\" WHERE \"_due\" <= ? LIMIT {STEP}");
        let rows = {
            let mut statement = connection.prepare(&due)?;
            let rows =
                statement.query_map([now], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
            rows.collect::<rusqlite::Result<Vec<_>>>()?
        };
        if rows.is_empty() {
            continue;
        }
        more |= rows.len() == STEP;
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for (row, text) in rows {
            let mut known = stamps(&text)?;
            let expired = known.sweep(now);
            if known.empty() {
                transaction.execute(&format!("DELETE FROM \"{table}\" WHERE rowid = ?"), [row])?;
                continue;
            }
            let emptied = expired
                .iter()
                .map(|column| format!("\"{column}\" = NULL, "))
                .collect::<String>();
            let sql =
                format!("UPDATE \"{table}\" SET {emptied}\"_stamps\" = ?, \"_due\" = ? WHERE rowid = ?");
            let text = serde_json::to_string(&known);
            let text = text.map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
            let due = known.due(now);
            transaction.execute(&sql, (text, due, row))?;
        }
        transaction.commit()?;
    }
    Ok(more)
}

/// The tables of this engine: those with an index of what is due.
fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT tbl_name FROM sqlite_schema WHERE type = 'index' AND name = tbl_name || '__due'";
    let mut statement = connection.prepare(sql)?;
    let tables = statement.query_map(params_from_iter([0_i64; 0]), |row| row.get(0))?;
    tables.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::{Catalogue, Change};
    use crate::merge::GRACE;
    use crate::sqlite::statements;

    fn stored(connection: &Connection) -> Vec<(i64, Option<String>)> {
        let mut statement = connection.prepare("SELECT p, a FROM t ORDER BY p").unwrap();
        let rows = statement
            .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        rows.map(Result::unwrap).collect()
    }

    #[test]
    fn what_is_due_is_emptied_then_forgotten_in_bounded_steps() {
        let mut connection = Connection::open_in_memory().unwrap();
        let cql = "CREATE TABLE IF NOT EXISTS t (p int, a text, PRIMARY KEY ((p)))";
        let catalogue = Catalogue::read(&[schemas::Migration { name: "001", cql }]).unwrap();
        let Change::Create(definition) = &catalogue.steps[0].change else {
            panic!("not a table")
        };
        connection.execute_batch(&statements::create(definition)).unwrap();
        let rows = [
            (1, r#"{"marker":{"t":1},"cells":{"a":{"t":1}}}"#, None),
            (
                2,
                r#"{"marker":{"t":1},"cells":{"a":{"t":1,"x":100}}}"#,
                Some(100),
            ),
            (3, r#"{"deleted":{"t":1,"d":100}}"#, Some(100 + GRACE)),
        ];
        for row in rows {
            let sql = "INSERT INTO t (p, a, \"_stamps\", \"_due\") VALUES (?1, 'here', ?2, ?3)";
            connection.execute(sql, row).unwrap();
        }
        let here = Some("here".to_owned());
        assert!(!step(&mut connection, 99).unwrap());
        assert_eq!(
            stored(&connection),
            [(1, here.clone()), (2, here.clone()), (3, here.clone())]
        );
        step(&mut connection, 100).unwrap();
        assert_eq!(
            stored(&connection),
            [(1, here.clone()), (2, None), (3, here.clone())]
        );
        step(&mut connection, 100 + GRACE).unwrap();
        assert_eq!(stored(&connection), [(1, here), (2, None)]);
        let left = connection.query_row("SELECT \"_stamps\" FROM t WHERE p = 2", (), |row| {
            row.get::<_, String>(0)
        });
        assert_eq!(left.unwrap(), r#"{"marker":{"t":1}}"#);
        let many = "WITH RECURSIVE n(n) AS (SELECT 10 UNION ALL SELECT n + 1 FROM n WHERE n < 309)
                    INSERT INTO t (p, \"_stamps\", \"_due\") SELECT n, '{\"deleted\":{\"t\":1,\"d\":1}}', 5 FROM n";
        connection.execute(many, ()).unwrap();
        assert!(
            step(&mut connection, 100 + GRACE).unwrap(),
            "more than a step is due"
        );
        assert!(!step(&mut connection, 100 + GRACE).unwrap());
        assert_eq!(stored(&connection).len(), 2);
    }
}
