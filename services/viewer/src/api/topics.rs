//! The site's topics.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use common::broker::{Cleanup, TopicDescription, TopicSpec};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Site;
use super::input::Input;
use crate::problem::{Problem, ProblemBody, Result};

/// A topic.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TopicView {
    name: String,
    partitions: i32,
    replication: i32,
    /// delete: the newest days stay; compact: the newest record of each key stays.
    cleanup: &'static str,
    /// How long records stay; null is for ever, or the engine's default.
    retention_ms: Option<u64>,
    /// Names the incarnation: a topic made again has another.
    id: String,
    /// The ends of its partitions; null in a listing.
    offsets: Option<Vec<OffsetsView>>,
}

/// The ends of a partition.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OffsetsView {
    partition: i32,
    /// The first offset that is there.
    low: i64,
    /// The next one that will be.
    high: i64,
}

fn view(topic: TopicDescription, offsets: Option<Vec<OffsetsView>>) -> TopicView {
    let retention = topic
        .retention
        .map(|retention| u64::try_from(retention.as_millis()).unwrap_or(u64::MAX));
    TopicView {
        name: topic.name,
        partitions: topic.partitions,
        replication: topic.replication,
        cleanup: match topic.cleanup {
            Cleanup::Delete => "delete",
            Cleanup::Compact => "compact",
        },
        retention_ms: retention,
        id: topic.id,
        offsets,
    }
}

/// The topics.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TopicsView {
    topics: Vec<TopicView>,
}

/// Lists the topics.
#[utoipa::path(get, path = "/api/topics", responses((status = 200, body = TopicsView)))]
pub(crate) async fn list(State(app): Site) -> Result<Json<TopicsView>> {
    let topics = app.broker.topics().await?;
    Ok(Json(TopicsView {
        topics: topics.into_iter().map(|topic| view(topic, None)).collect(),
    }))
}

/// Shows a topic.
#[utoipa::path(get, path = "/api/topics/{topic}", params(("topic" = String, Path)),
    responses((status = 200, body = TopicView), (status = 404, body = ProblemBody)))]
pub(crate) async fn one(State(app): Site, Path(topic): Path<String>) -> Result<Json<TopicView>> {
    let found = app
        .broker
        .describe(&topic)
        .await?
        .ok_or_else(|| unknown(&topic))?;
    let mut offsets = Vec::new();
    for partition in 0..found.partitions {
        let marks = app.broker.watermarks(&topic, partition).await?;
        offsets.push(OffsetsView {
            partition,
            low: marks.low,
            high: marks.high,
        });
    }
    Ok(Json(view(found, Some(offsets))))
}

pub(crate) fn unknown(topic: &str) -> Problem {
    Problem::not_found(format!("there is no topic {topic}")).hint("GET /api/topics lists what there is")
}

/// A topic to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewTopic {
    name: String,
    /// 3 unless told.
    partitions: Option<i32>,
    /// 1 unless told.
    replication: Option<i32>,
    /// Keeps the newest record of each key instead of the newest days.
    #[serde(default)]
    compacted: bool,
    /// How long records stay; the engine's default unless told.
    retention_ms: Option<u64>,
}

/// A topic that is there now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreatedView {
    name: String,
    /// False if it was there already; it is left as it was.
    created: bool,
}

/// Makes a topic.
#[utoipa::path(post, path = "/api/topics", request_body = NewTopic,
    responses((status = 201, body = CreatedView), (status = 200, body = CreatedView), (status = 400, body = ProblemBody)))]
pub(crate) async fn create(
    State(app): Site,
    Input(new): Input<NewTopic>,
) -> Result<(StatusCode, Json<CreatedView>)> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let name = new.name;
    if name.is_empty()
        || name.len() > 249
        || matches!(&*name, "." | "..")
        || name.starts_with("__")
        || !name.bytes().all(valid)
    {
        return Err(Problem::bad_request(
            "name must be letters, digits, `.`, `_` and `-`, and not begin with `__`",
        ));
    }
    let (partitions, replication) = (new.partitions.unwrap_or(3), new.replication.unwrap_or(1));
    if !(1..=1000).contains(&partitions) || !(1..=10).contains(&replication) {
        return Err(Problem::bad_request(
            "partitions must be 1 to 1000, replication 1 to 10",
        ));
    }
    let mut spec = TopicSpec::new(&name, partitions);
    spec.replication = replication;
    spec.retention = new.retention_ms.map(Duration::from_millis);
    if new.compacted {
        spec = spec.compacted();
    }
    let created = app.broker.create_topic(&spec).await?;
    let status = if created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(CreatedView { name, created })))
}

/// A topic that is gone.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeletedView {
    name: String,
    deleted: bool,
}

/// Deletes a topic and all its records.
#[utoipa::path(delete, path = "/api/topics/{topic}", params(("topic" = String, Path)),
    responses((status = 200, body = DeletedView), (status = 404, body = ProblemBody)))]
pub(crate) async fn delete(State(app): Site, Path(topic): Path<String>) -> Result<Json<DeletedView>> {
    app.broker.delete_topic(&topic).await?;
    tracing::warn!(%topic, "topic deleted");
    Ok(Json(DeletedView {
        name: topic,
        deleted: true,
    }))
}
