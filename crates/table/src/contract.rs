//! The rules that every engine keeps, as one suite that each of them is run through.
//!
//! Each rule takes a fresh session, on a place with no tables yet, and panics when the engine breaks it. [`rules!`] turns
//! all of them into tests.
//!
//! [`rules!`]: crate::rules

mod definitions;
mod merging;
mod reading;

pub use definitions::*;
pub use merging::*;
pub use reading::*;

use schemas::Migration;

use crate::error::Result;
use crate::row::Row;
use crate::session::Session;
use crate::value::Value;
use crate::write::Write;

/// One test for each rule: `table::rules!(run)`, where `run` opens a fresh session and awaits the rule it is given with
/// it; attributes may follow, for all of them.
#[macro_export]
macro_rules! rules {
    ($run:ident $(#[$attribute:meta])*) => {
        $crate::rules! { @each $run [$(#[$attribute])*]
            what_was_written_is_read
            a_row_with_only_its_key_is_there
            malformed_requests_are_refused
            a_partition_is_read_in_clustering_order_page_by_page
            a_prefix_narrows_a_read
            a_descending_table_is_read_from_the_largest_down
            many_rows_are_written_at_once
            large_blobs_are_kept
            an_older_write_loses
            a_tie_is_settled_by_the_larger_value
            a_replay_changes_nothing
            expired_cells_and_rows_are_gone
            a_deletion_holds_against_late_writes
            a_null_deletes_the_cell
            writers_of_different_columns_do_not_disturb_each_other
            migrating_twice_changes_nothing
            a_changed_migration_is_an_error
            an_unmigrated_place_names_the_remedy
            an_added_column_is_null_in_older_rows
        }
    };
    (@each $run:ident $attributes:tt $($rule:ident)*) => { $($crate::rules! { @one $run $attributes $rule })* };
    (@one $run:ident [$(#[$attribute:meta])*] $rule:ident) => {
        #[tokio::test]
        $(#[$attribute])*
        async fn $rule() {
            $run(async |session: &$crate::Session| $crate::contract::$rule(session).await).await;
        }
    };
}

/// The tables that the rules use.
pub const TABLES: &[Migration] = &[
    Migration {
        name: "001_things",
        cql: "-- one column of each type
            CREATE TABLE IF NOT EXISTS things (
                shelf text, box int, name text,
                note text, count int, size bigint, weight double, sold boolean, image blob, seen_at timestamp,
                PRIMARY KEY ((shelf), box, name)
            );",
    },
    Migration {
        name: "002_events",
        cql: "CREATE TABLE IF NOT EXISTS events (source text, day int, at timestamp, text text,
                PRIMARY KEY ((source, day), at)) WITH CLUSTERING ORDER BY (at DESC);",
    },
];

/// One table more, not part of [`TABLES`].
pub const ADDED: &[Migration] = &[
    TABLES[0],
    TABLES[1],
    Migration {
        name: "003_colour",
        cql: "ALTER TABLE things ADD colour text;",
    },
];

/// A write to the row that most rules use.
fn thing() -> Write {
    Write::to("things")
        .set("shelf", "a")
        .set("box", 1)
        .set("name", "x")
}

fn key(name: &str) -> [(&'static str, Value); 3] {
    [("shelf", "a".into()), ("box", 1.into()), ("name", name.into())]
}

async fn read(session: &Session) -> Result<Option<Row>> {
    session.get("things", &key("x")).await
}

/// The note of the row that most rules use; the row must be there.
async fn note(session: &Session) -> Result<Option<String>> {
    let row = read(session).await?;
    assert!(row.is_some(), "the row is not there");
    Ok(row.and_then(|row| row.text("note").map(str::to_owned)))
}
