//! A topic's records as JSON lines, decoded.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use common::broker::{self, DeadLetter, Position, Reader, Record, Start};
use common::schemas;
use common::telemetry;
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use utoipa::IntoParams;

use super::Site;
use super::input::Params;
use super::topics::unknown;
use crate::app::App;
use crate::problem::{Problem, ProblemBody, Result};
use crate::sign_in;

/// How many streams may be open at once.
pub(crate) const MAX_STREAMS: usize = 32;
const RECORDS: usize = 200;
const WAIT: Duration = Duration::from_millis(500);

/// Which records.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordsQuery {
    /// beginning (unless told), end, or an offset, which needs a partition.
    from: Option<String>,
    /// Only this partition.
    partition: Option<i32>,
    /// At most so many; all that are there now unless told.
    limit: Option<usize>,
    /// Goes on with new records until the caller leaves.
    #[serde(default)]
    follow: bool,
}

/// Streams a topic's records, a JSON object a line: topic, partition, offset, timestamp, key, headers, schema, value, raw
/// (base64, where it cannot be decoded), error, dead_letter.
#[utoipa::path(get, path = "/api/topics/{topic}/records", params(("topic" = String, Path), RecordsQuery),
    responses((status = 200, description = "JSON lines", content_type = "application/x-ndjson"), (status = 404, body = ProblemBody)))]
pub(crate) async fn records(
    State(app): Site,
    Path(topic): Path<String>,
    Params(query): Params<RecordsQuery>,
    headers: HeaderMap,
) -> Result<Response> {
    let busy = || Problem::unavailable("too many streams of records are open").hint("close one of them");
    let permit = app.streams.clone().try_acquire_owned().map_err(|_| busy())?;
    let walk = Walk::start(app, &topic, query, headers, permit).await?;
    let body = Body::from_stream(stream::try_unfold(walk, |mut walk| async move {
        let lines = walk.lines().await?;
        Ok::<_, broker::Error>(lines.map(|lines| (lines, walk)))
    }));
    let mut response = body.into_response();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-ndjson"),
    );
    Ok(response)
}

/// A walk through partitions, to their ends as they were or for ever.
struct Walk {
    app: Arc<App>,
    topic: String,
    reader: Option<Reader>,
    /// Partition and where it ends; none follows.
    ends: Option<Vec<(i32, i64)>>,
    left: usize,
    /// Says who the caller is, as long as that holds, and when to ask again.
    headers: HeaderMap,
    ask_at: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Walk {
    async fn start(
        app: Arc<App>,
        topic: &str,
        query: RecordsQuery,
        headers: HeaderMap,
        permit: OwnedSemaphorePermit,
    ) -> Result<Self> {
        let found = app.broker.describe(topic).await?.ok_or_else(|| unknown(topic))?;
        let partitions = match query.partition {
            None => 0..found.partitions,
            Some(one) if (0..found.partitions).contains(&one) => one..one + 1,
            Some(one) => {
                return Err(Problem::not_found(format!(
                    "topic {topic} has no partition {one}"
                )));
            }
        };
        let from = match query.from.as_deref() {
            None | Some("" | "beginning") => Start::Beginning,
            Some("end") => Start::End,
            Some(offset) => {
                let offset = offset
                    .parse()
                    .map_err(|_| Problem::bad_request("from is beginning, end, or an offset"))?;
                if query.partition.is_none() {
                    return Err(Problem::bad_request("an offset needs a partition"));
                }
                Start::Offset(offset)
            }
        };
        let (mut positions, mut ends) = (Vec::new(), Vec::new());
        for partition in partitions {
            let marks = app.broker.watermarks(topic, partition).await?;
            let start = match from {
                Start::Beginning => marks.low,
                Start::End => marks.high,
                Start::Offset(offset) if (marks.low..=marks.high).contains(&offset) => offset,
                Start::Offset(offset) => {
                    return Err(Problem::bad_request(format!(
                        "offset {offset} of {topic}/{partition} is outside {}..={}",
                        marks.low, marks.high
                    )));
                }
            };
            if query.follow || start < marks.high {
                positions.push(Position::at(topic, partition, start));
                ends.push((partition, marks.high));
            }
        }
        let reader = if positions.is_empty() {
            None
        } else {
            Some(app.broker.reader(&positions).await?)
        };
        Ok(Self {
            app,
            topic: topic.to_owned(),
            reader,
            ends: (!query.follow).then_some(ends),
            left: query.limit.unwrap_or(usize::MAX),
            headers,
            ask_at: Instant::now() + sign_in::AGAIN,
            _permit: permit,
        })
    }

    /// The next lines; none at the end, or when the caller is nobody any more. When the caller leaves, the server drops the walk, in the middle of a wait too.
    async fn lines(&mut self) -> Result<Option<Bytes>, broker::Error> {
        let Some(reader) = self.reader.as_mut() else {
            return Ok(None);
        };
        loop {
            if self.left == 0 || self.app.stop.is_cancelled() {
                return Ok(None);
            }
            if self.ask_at <= Instant::now() {
                self.ask_at = Instant::now() + sign_in::AGAIN;
                if !sign_in::stands(&self.app, &self.headers).await {
                    return Ok(None);
                }
            }
            if let Some(ends) = &self.ends {
                let reached = |(partition, end): &(i32, i64)| {
                    reader
                        .position(&self.topic, *partition)
                        .is_some_and(|position| position >= *end)
                };
                if ends.iter().all(reached) {
                    return Ok(None);
                }
            }
            let records = reader.next(self.left.min(RECORDS), WAIT).await?;
            let mut text = Vec::new();
            for record in records {
                let end = self
                    .ends
                    .as_ref()
                    .and_then(|ends| ends.iter().find(|(p, _)| *p == record.partition));
                if end.is_none_or(|(_, end)| record.offset < *end) {
                    self.left -= 1;
                    // Writing a value to memory cannot fail.
                    drop(serde_json::to_writer(&mut text, &shown(&record)));
                    text.push(b'\n');
                }
            }
            if !text.is_empty() {
                return Ok(Some(text.into()));
            }
        }
    }
}

/// A record as JSON.
pub(crate) fn shown(record: &Record) -> Value {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let headers: Map<String, Value> = record
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), text(value).into()))
        .collect();
    let (schema, value, raw, error) = decoded(record.value.as_ref());
    json!({
        "topic": &*record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": record.key.as_ref().map(text),
        "headers": headers,
        "schema": schema,
        "value": value,
        "raw": raw,
        "error": error,
        "dead_letter": DeadLetter::of(record).map(|letter| json!({
            "error": letter.error,
            "service": letter.service,
            "topic": letter.topic,
            "partition": letter.partition,
            "offset": letter.offset,
            "value_dropped": letter.value_dropped,
        })),
    })
}

type Decoded = (
    Option<&'static str>,
    Option<Value>,
    Option<String>,
    Option<String>,
);

/// Avro of a known schema, or JSON as it came from outside; else the bytes, and why.
fn decoded(value: Option<&Bytes>) -> Decoded {
    let Some(bytes) = value else {
        return (None, None, None, None);
    };
    match schemas::decode_json(bytes) {
        Ok((schema, value)) => (Some(schema), Some(value), None, None),
        Err(error) => match serde_json::from_slice(bytes) {
            Ok(value) => (None, Some(value), None, None),
            Err(_) => (
                None,
                None,
                Some(STANDARD.encode(bytes)),
                Some(telemetry::chain(&error)),
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_avro_or_json_or_bytes_with_the_reason() {
        let avro = Bytes::from(schemas::encode(&testkit::announced(1, "http://x/")).unwrap());
        let (schema, value, ..) = decoded(Some(&avro));
        assert_eq!(
            (schema, &value.unwrap()["native_id"]),
            (Some("asset"), &json!("entry-1"))
        );
        assert_eq!(
            decoded(Some(&Bytes::from_static(b"{\"a\":1}"))).1,
            Some(json!({"a": 1}))
        );
        let (_, value, raw, error) = decoded(Some(&Bytes::from_static(b"\xff\xfe")));
        assert_eq!((value, raw.as_deref()), (None, Some("//4=")));
        assert!(error.is_some());
    }
}
