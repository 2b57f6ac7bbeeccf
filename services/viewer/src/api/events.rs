//! What happens, as it happens: server-sent events, with resume.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use common::chassis::now_ms;
use futures_util::stream;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use utoipa::IntoParams;

use super::Site;
use super::input::Params;
use crate::app::{App, Kind};
use crate::events::{Event, LanesView, MAX_LISTENERS, NAMES, RESET};
use crate::problem::{Problem, ProblemBody, Result};
use crate::sign_in;

/// How often a listener hears that the line is up, and is asked again who it is.
const BEAT: Duration = sign_in::AGAIN;

/// What to hear.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventsQuery {
    /// Only these kinds, with commas between; all unless told. hello, reset and beat always come.
    topics: Option<String>,
    /// The id of the last event that was heard; the header `last-event-id` counts more.
    after: Option<String>,
}

/// Streams what happens: `hello` {epoch, now} at first; `beat` {now} every 15 s, so that who hears nothing for longer knows that the line is dead; `assets` {assets, by_state}; `services` {services}; `logs`
/// {service, instance, as_of}: it has new lines; `problems` {problems}; at a core `sites`, `requests` {requests} and `lanes`; at an edge `link`, `mirror` and `volume`, each as its
/// own route answers, and `history` {at}: the link's past has a new point; `dead_letters` {kept, waiting}; `audit` {at}: it has new entries; `users` {at}: one was added, changed or removed. `reset` says that events were lost: read anew what you show. Listen first, then read.
#[utoipa::path(get, path = "/api/events", params(EventsQuery),
    responses((status = 200, description = "events", content_type = "text/event-stream", body = String),
        (status = 400, body = ProblemBody), (status = 503, body = ProblemBody, description = "too many listen")))]
pub(crate) async fn events(
    State(app): Site,
    Params(query): Params<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response> {
    let mut wanted = Vec::new();
    let topics = query.topics.as_deref().unwrap_or_default();
    for topic in topics.split(',').map(str::trim).filter(|topic| !topic.is_empty()) {
        let name = NAMES.into_iter().find(|name| *name == topic);
        let unknown = || {
            Problem::bad_request(format!(
                "{topic:?} is no kind of event; there are {}",
                NAMES.join(", ")
            ))
        };
        wanted.push(name.ok_or_else(unknown)?);
    }
    let busy = || {
        Problem::unavailable(format!("{MAX_LISTENERS} callers listen already"))
            .hint("close a page")
            .retry_after(5)
    };
    let permit = app
        .hub
        .listeners
        .clone()
        .try_acquire_owned()
        .map_err(|_| busy())?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let after = last.or(query.after.as_deref()).filter(|id| !id.is_empty());
    let listener = Listener::new(app, after, wanted, headers.clone(), permit);
    let body = Body::from_stream(stream::unfold(listener, |mut listener| async move {
        let text = listener.next().await?;
        Some((Ok::<_, std::convert::Infallible>(text), listener))
    }));
    let mut response = body.into_response();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// One caller that listens.
struct Listener {
    app: Arc<App>,
    wanted: Vec<&'static str>,
    /// Says who it is, as long as that holds.
    headers: HeaderMap,
    ready: VecDeque<String>,
    live: Receiver<Arc<Event>>,
    /// The last event that it heard, or did not want.
    at: u64,
    beat: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Listener {
    fn new(
        app: Arc<App>,
        after: Option<&str>,
        wanted: Vec<&'static str>,
        headers: HeaderMap,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let start = app.hub.listen(after);
        let mut listener = Self {
            wanted,
            headers,
            ready: VecDeque::new(),
            live: start.live,
            at: start.at,
            beat: Instant::now() + BEAT,
            _permit: permit,
            app,
        };
        let hello = json!({"epoch": listener.app.hub.epoch(), "now": now_ms()});
        listener
            .ready
            .push_back(listener.text("hello", &hello.to_string()));
        if start.reset {
            listener.ready.push_back(listener.text(RESET, "{}"));
        }
        for event in start.missed {
            let text = listener.hear(&event);
            listener.ready.extend(text);
        }
        listener
    }

    fn text(&self, name: &str, data: &str) -> String {
        format!(
            "id: {}\nevent: {name}\ndata: {data}\n\n",
            self.app.hub.id(self.at)
        )
    }

    fn hear(&mut self, event: &Event) -> Option<String> {
        self.at = event.number;
        let wanted = self.wanted.is_empty() || event.name == RESET || self.wanted.contains(&event.name);
        wanted.then(|| self.text(event.name, &event.data))
    }

    /// The next piece of the stream; none when the service stops, or the caller is nobody any more.
    async fn next(&mut self) -> Option<String> {
        if let Some(text) = self.ready.pop_front() {
            return Some(text);
        }
        loop {
            let stop = self.app.stop.clone();
            tokio::select! {
                () = stop.cancelled() => return None,
                heard = self.live.recv() => match heard {
                    Ok(event) => {
                        let text = self.hear(&event);
                        if text.is_some() {
                            return text;
                        }
                    }
                    Err(RecvError::Lagged(_)) => {
                        let start = self.app.hub.listen(None);
                        (self.live, self.at) = (start.live, start.at);
                        return Some(self.text(RESET, "{}"));
                    }
                    Err(RecvError::Closed) => return None,
                },
                () = tokio::time::sleep_until(self.beat) => {
                    self.beat = Instant::now() + BEAT;
                    if !sign_in::stands(&self.app, &self.headers).await {
                        return None;
                    }
                    // Its id is kept by the listener, so that what it did not want is not missed.
                    return Some(self.text("beat", &json!({"now": now_ms()}).to_string()));
                }
            }
        }
    }
}

/// Shows the last assets to pass each stage (core).
#[utoipa::path(get, path = "/api/lanes", responses((status = 200, body = LanesView), (status = 404, body = ProblemBody)))]
pub(crate) async fn lanes(State(app): Site) -> Result<Json<LanesView>> {
    app.only(Kind::Core)?;
    app.indexed().await?;
    Ok(Json(app.lanes.view(|id| app.previews.has(id))))
}
