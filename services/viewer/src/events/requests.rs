//! What edges ask of the core, followed on each edge's own topics; what the core then knows of it is read from its table.

use std::collections::BTreeMap;
use std::time::Duration;

use common::broker::{Position, Reader};
use common::schemas::{
    self, AssetReceipt, AssetRequest, AssetResponse, Outcome, RequestAction, RequestId, SiteId, split_site,
    topic,
};
use serde::Serialize;
use tokio::time::Instant;

use super::Lane;
use super::lanes::Passed;
use crate::app::App;
use crate::index::pack;
use crate::requests;
use crate::view::RequestView;

/// How often edges that were enrolled since are looked for.
const LOOK: Duration = Duration::from_secs(10);
/// How many of each partition's last answers are read at first, for the lanes; and of its last requests, which may have
/// no row yet.
const TAIL: [(&str, i64); 2] = [(topic::ASSET_RESPONSE, 12), (topic::ASSET_REQUEST, 100)];
const WAIT: Duration = Duration::from_millis(300);
/// The responder writes its row before it answers, but after it has read a request or a receipt: looked at so late.
const ROW: [Duration; 2] = [Duration::from_millis(300), Duration::from_millis(2000)];
/// Rows to look at; what is beyond is told to nobody, and seen when a page is opened.
const MAX_DUE: usize = 2000;

/// Requests that changed.
#[derive(Debug, Serialize)]
struct Requests {
    requests: Vec<RequestView>,
}

type Due = BTreeMap<RequestId, Instant>;

/// How far edges were followed, which outlives an error: what comes while the engines are away is told when they are back.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    heard: BTreeMap<(String, i32), i64>,
    due: Due,
    again: Due,
}

/// Follows until an error.
pub(crate) async fn follow(app: &App) -> anyhow::Result<()> {
    app.index.ready().await;
    let Followed { heard, due, again } = &mut *app.followed.lock().await;
    // Where the topics end is noted before the table is walked, so nothing falls between the two.
    let mut reader = open(app, heard).await?;
    requests::walk(app).await?;
    loop {
        let until = Instant::now() + LOOK;
        while Instant::now() < until {
            match reader.as_mut() {
                Some(reader) => listen(app, reader, heard, due).await?,
                None => tokio::time::sleep(LOOK).await,
            }
            for (key, at) in tell(app, due).await? {
                if again.len() < MAX_DUE {
                    again.insert(key, at + ROW[1]);
                }
            }
            tell(app, again).await?;
        }
        reader = open(app, heard).await?;
    }
}

/// Reads on in the topics that were read, and from near the end in those that are new.
async fn open(app: &App, heard: &mut BTreeMap<(String, i32), i64>) -> anyhow::Result<Option<Reader>> {
    let kinds = [topic::ASSET_REQUEST, topic::ASSET_RESPONSE, topic::ASSET_RECEIPT];
    let mut positions = Vec::new();
    for found in app.broker.topics().await? {
        if !split_site(&found.name).is_some_and(|(_, name)| kinds.contains(&name)) {
            continue;
        }
        for partition in 0..found.partitions {
            let marks = app.broker.watermarks(&found.name, partition).await?;
            let tail = TAIL.iter().find(|(kind, _)| found.name.ends_with(kind));
            let tail = tail.map_or(0, |(_, tail)| *tail);
            let next = heard
                .entry((found.name.clone(), partition))
                .or_insert(marks.high - tail);
            *next = (*next).clamp(marks.low, marks.high);
            positions.push(Position::at(&found.name, partition, *next));
        }
    }
    Ok(if positions.is_empty() {
        None
    } else {
        Some(app.broker.reader(&positions).await?)
    })
}

async fn listen(
    app: &App,
    reader: &mut Reader,
    heard: &mut BTreeMap<(String, i32), i64>,
    due: &mut Due,
) -> anyhow::Result<()> {
    for record in reader.next(500, WAIT).await? {
        heard.insert((record.topic.to_string(), record.partition), record.offset + 1);
        let (Some((site, name)), Some(value)) = (split_site(&record.topic), record.value.as_deref()) else {
            continue;
        };
        let request_id = match name {
            topic::ASSET_RESPONSE => schemas::decode::<AssetResponse>(value).ok().map(|answer| {
                answered(app, &site, &answer);
                answer.request_id
            }),
            topic::ASSET_RECEIPT => schemas::decode::<AssetReceipt>(value)
                .ok()
                .map(|receipt| receipt.request_id),
            _ => schemas::decode::<AssetRequest>(value)
                .ok()
                .and_then(|request| asked(app, &site, request)),
        };
        // The site is whose topic it is, whatever a record says.
        let own = |id: &RequestId| id.as_str().split('.').next() == Some(site.as_str());
        if let Some(id) = request_id.filter(own).filter(|_| due.len() < MAX_DUE) {
            due.entry(id).or_insert_with(|| Instant::now() + ROW[0]);
        }
    }
    Ok(())
}

/// Notes a request, unless its id is not its own: such a one is answered, and is no attempt.
fn asked(app: &App, site: &SiteId, request: AssetRequest) -> Option<RequestId> {
    let id = RequestId::new(site, &request.asset_id, request.attempt);
    if request.attempt < 1 || id != request.request_id {
        return None;
    }
    if request.action == RequestAction::Request {
        app.requests
            .note(id.clone(), request.requested_at, request.requested_by.as_deref());
    }
    Some(id)
}

fn answered(app: &App, site: &SiteId, answer: &AssetResponse) {
    let title = app.index.get(&answer.asset_id).map(|entry| entry.title.into());
    app.lanes.note(
        Lane::Responder,
        Passed {
            lane: "",
            asset_id: answer.asset_id.to_string(),
            title: title.unwrap_or_default(),
            state: match answer.outcome {
                Outcome::Ready => "ready",
                Outcome::Refused => "refused",
                Outcome::Cancelled => "cancelled",
            },
            at: answer.responded_at,
            site: Some(site.to_string()),
            has_preview: false,
        },
    );
}

/// Tells of the rows whose time has come, and returns them.
async fn tell(app: &App, due: &mut Due) -> anyhow::Result<Due> {
    let now = Instant::now();
    let mut requests = Vec::new();
    for (id, _) in due.iter().filter(|(_, at)| **at <= now) {
        let Some(view) = requests::look(app, id).await? else {
            continue;
        };
        let asset_id = view.asset_id.as_deref().and_then(|id| id.parse().ok());
        if let Some(asset_id) = asset_id {
            app.index.touch(pack(&asset_id));
        }
        requests.push(view);
    }
    if !requests.is_empty() {
        app.hub.publish("requests", &Requests { requests });
    }
    // An error before this leaves all of them due.
    Ok(due.extract_if(.., |_, at| *at <= now).collect())
}
