//! Records that could not be processed, with their reasons; and sending them again.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::broker::{DeadLetter, Position, Record, dead_letter_topic};
use common::chassis::now_ms;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Site;
use super::input::{By, Input, Params};
use crate::app::App;
use crate::problem::{Problem, ProblemBody, Result};

const LIMIT: usize = 200;
const MAX_LIMIT: usize = 1000;
/// How many partitions are looked at together.
const AT_ONCE: usize = 8;
/// How much of a value is shown.
const RAW_BYTES: usize = 4096;

/// How many to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadLettersQuery {
    /// At most so many: 200 unless told, 1000 at most.
    limit: Option<usize>,
}

/// Where a record was read.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OriginView {
    topic: String,
    partition: i32,
    offset: i64,
}

/// A record that could not be processed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetterView {
    topic: String,
    partition: i32,
    offset: i64,
    timestamp: i64,
    key: Option<String>,
    /// Why.
    error: String,
    /// Who tried.
    service: String,
    origin: OriginView,
    /// False when its value was too large to be kept.
    redrivable: bool,
    /// When it was last sent again; one that failed again is a dead letter of its own.
    redriven_at: Option<i64>,
    /// The value's first 4 KiB in base64.
    raw: Option<String>,
}

/// The newest dead letters.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLettersView {
    dead_letters: Vec<DeadLetterView>,
    /// Whether there are older ones.
    more: bool,
}

/// The topics that hold them, and their partitions.
pub(crate) async fn topics(app: &App) -> Result<Vec<(String, i32)>> {
    let suffix = dead_letter_topic("");
    let topics = app
        .broker
        .topics()
        .await?
        .into_iter()
        .filter(|topic| topic.name.ends_with(&suffix));
    Ok(topics.map(|topic| (topic.name, topic.partitions)).collect())
}

/// How many dead letters there are.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counted {
    pub(crate) kept: i64,
    /// Those that were not sent again.
    pub(crate) waiting: i64,
}

/// Counts them.
pub(crate) async fn count(app: &App) -> Result<Counted> {
    let partitions = topics(app)
        .await?
        .into_iter()
        .flat_map(|(topic, partitions)| (0..partitions).map(move |partition| (topic.clone(), partition)));
    let all: Vec<_> = stream::iter(partitions)
        .map(|(topic, partition)| async move {
            let marks = app.broker.watermarks(&topic, partition).await?;
            Ok::<_, Problem>((topic, partition, marks))
        })
        // Each is a question of its own to the broker.
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let mut counted = Counted::default();
    for (topic, partition, marks) in all {
        counted.kept += marks.high - marks.low;
        counted.waiting += app.letters.waiting(&topic, partition, &marks);
    }
    Ok(counted)
}

/// Lists dead letters, newest first.
#[utoipa::path(get, path = "/api/dead-letters", params(DeadLettersQuery), responses((status = 200, body = DeadLettersView)))]
pub(crate) async fn list(
    State(app): Site,
    Params(query): Params<DeadLettersQuery>,
) -> Result<Json<DeadLettersView>> {
    let limit = query.limit.unwrap_or(LIMIT).clamp(1, MAX_LIMIT);
    let mut found: Vec<DeadLetterView> = Vec::new();
    let mut more = false;
    for (topic, partitions) in topics(&app).await? {
        for partition in 0..partitions {
            let marks = app.broker.watermarks(&topic, partition).await?;
            let start = marks
                .low
                .max(marks.high - i64::try_from(limit).unwrap_or(i64::MAX));
            more |= start > marks.low;
            if start >= marks.high {
                continue;
            }
            let mut reader = app
                .broker
                .reader(&[Position::at(&topic, partition, start)])
                .await?;
            while reader
                .position(&topic, partition)
                .is_none_or(|position| position < marks.high)
            {
                let records = reader.next(limit, Duration::from_millis(500)).await?;
                found.extend(records.iter().filter_map(|record| view(&app, record)));
            }
            // Of all that was read so far, only the newest stay in memory.
            found.sort_by_key(|letter| std::cmp::Reverse((letter.timestamp, letter.offset)));
            more |= found.len() > limit;
            found.truncate(limit);
        }
    }
    Ok(Json(DeadLettersView {
        dead_letters: found,
        more,
    }))
}

fn view(app: &App, record: &Record) -> Option<DeadLetterView> {
    let letter = DeadLetter::of(record)?;
    Some(DeadLetterView {
        topic: record.topic.to_string(),
        partition: record.partition,
        offset: record.offset,
        timestamp: record.timestamp,
        key: record
            .key
            .as_deref()
            .map(|key| String::from_utf8_lossy(key).into_owned()),
        error: letter.error,
        service: letter.service,
        origin: OriginView {
            topic: letter.topic,
            partition: letter.partition,
            offset: letter.offset,
        },
        redrivable: !letter.value_dropped,
        redriven_at: app
            .letters
            .again_at(&record.topic, record.partition, record.offset),
        raw: record
            .value
            .as_ref()
            .map(|value| STANDARD.encode(&value[..value.len().min(RAW_BYTES)])),
    })
}

/// Where a record lies now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RedrivenView {
    topic: String,
    partition: i32,
    offset: i64,
}

/// Notes that one was sent again. Whose it is only makes the service's own count right.
async fn note(app: &App, topic: &str, partition: i32, offset: i64) {
    if !app.letters.sent_again(topic, partition, offset, now_ms()) {
        return;
    }
    let read = async {
        let mut reader = app
            .broker
            .reader(&[Position::at(topic, partition, offset)])
            .await?;
        reader.next(1, Duration::from_secs(1)).await
    };
    let found = read.await.ok();
    let letter = found.and_then(|records| records.first().and_then(DeadLetter::of));
    if let Some(letter) = letter {
        app.services.letter(&letter.service, -1);
    }
}

/// Sends a dead letter to the topic it came from. It stays listed, and waits no longer; twice sends it twice.
#[utoipa::path(post, path = "/api/dead-letters/{topic}/{partition}/{offset}/redrive",
    params(("topic" = String, Path), ("partition" = i32, Path), ("offset" = i64, Path)), request_body = By,
    responses((status = 200, body = RedrivenView), (status = 404, body = ProblemBody)))]
pub(crate) async fn redrive(
    State(app): Site,
    Path((topic, partition, offset)): Path<(String, String, String)>,
    Input(by): Input<By>,
) -> Result<Json<RedrivenView>> {
    let no_number = |what: &str| Problem::bad_request(format!("the {what} is no number that one can have"));
    let partition: i32 = partition.parse().map_err(|_| no_number("partition"))?;
    let offset: i64 = offset.parse().map_err(|_| no_number("offset"))?;
    let suffix = dead_letter_topic("");
    let no_dead_letters = || {
        Problem::not_found(format!(
            "{topic} holds no dead letters; their topics end in {suffix}"
        ))
    };
    let origin = topic.strip_suffix(&suffix).ok_or_else(no_dead_letters)?;
    let placed = app.broker.redrive(&topic, partition, offset).await?;
    note(&app, &topic, partition, offset).await;
    tracing::info!(%topic, partition, offset, by = by.by.as_deref().unwrap_or("-"), "dead letter sent again");
    Ok(Json(RedrivenView {
        topic: origin.to_owned(),
        partition: placed.partition,
        offset: placed.offset,
    }))
}
