//! What an operator's tools ask the embedded broker, and commit in a group's place.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, params};

use super::schema::{offset_of, row_id};
use super::{Shared, fetch};
use crate::error::{Error, Result};
use crate::group::GroupDescription;

/// Members are of this process: it is all there is to name them by.
fn named(members: usize) -> Vec<String> {
    let process = std::process::id();
    (1..=members)
        .map(|member| format!("member {member} in process {process}"))
        .collect()
}

fn group_error(operation: &'static str, group: &str) -> impl FnOnce(rusqlite::Error) -> Error {
    let group = group.to_owned();
    move |source| Error::Group {
        operation,
        group,
        source: source.into(),
    }
}

fn names(connection: &Connection, select: &str) -> rusqlite::Result<Vec<String>> {
    let mut select = connection.prepare_cached(select)?;
    select.query_map([], |row| row.get(0))?.collect()
}

impl Shared {
    pub(super) async fn topic_names(&self) -> Result<Vec<String>> {
        let select = |connection: &Connection| {
            names(connection, "SELECT name FROM topics ORDER BY name").map_err(|source| Error::Topic {
                operation: "list",
                topic: "*".into(),
                source: source.into(),
            })
        };
        self.threads.read(select).await
    }

    pub(super) async fn offset_at(&self, topic: &str, partition: i32, timestamp: i64) -> Result<Option<i64>> {
        let live = self.live(topic)?;
        let find = move |connection: &Connection| {
            let marks = fetch::watermarks(connection, &live, partition)?;
            let partition_id = live.partition(partition).map_or(0, |known| known.partition_id);
            let first = || {
                let mut select = connection.prepare_cached(
                    "SELECT id FROM records WHERE id >= ?1 AND id < ?2 AND timestamp >= ?3 ORDER BY id LIMIT 1",
                )?;
                let (low, high) = (row_id(partition_id, marks.low), row_id(partition_id, marks.high));
                let id = select.query_row(params![low, high, timestamp], |row| row.get(0));
                id.optional()
            };
            let id: Option<i64> = first().map_err(|source| Error::Read {
                topic: format!("{}/{partition}", live.name),
                source: source.into(),
            })?;
            Ok(id.map(offset_of))
        };
        self.threads.read(find).await
    }

    pub(super) async fn groups(&self) -> Result<Vec<GroupDescription>> {
        let select = |connection: &Connection| {
            let select = "SELECT DISTINCT group_name FROM commits";
            names(connection, select).map_err(group_error("list", "*"))
        };
        let committed = self.threads.read(select).await?;
        let sizes = self.groups.sizes();
        let all: BTreeSet<String> = sizes.keys().cloned().chain(committed).collect();
        let described = all.into_iter().map(|name| GroupDescription {
            members: named(sizes.get(&name).copied().unwrap_or_default()),
            name,
        });
        Ok(described.collect())
    }

    pub(super) async fn commit_for(&self, group: &str, topic: &str, offsets: &[(i32, i64)]) -> Result<()> {
        let live = self.live(topic)?;
        if let Some((partition, _)) = offsets
            .iter()
            .find(|(number, _)| live.partition(*number).is_none())
        {
            return Err(Error::UnknownPartition {
                topic: topic.to_owned(),
                partition: *partition,
            });
        }
        let next = offsets.iter();
        let next: Vec<_> = next
            .map(|(partition, next)| (live.topic_id, *partition, *next))
            .collect();
        let (groups, group) = (self.groups.clone(), group.to_owned());
        let commit = move |store: &mut super::store::Store<'_>| match groups.sizes().get(&group) {
            Some(members) => Err(Error::GroupInUse {
                members: named(*members),
                group: group.clone(),
            }),
            None => store.commit(&group, &next),
        };
        self.threads.write(0, commit).await
    }
}
