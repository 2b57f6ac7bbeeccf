//! The core's depot: whether it answers this site.

use std::time::Duration;

use axum::body::Body;
use common::identity::Enrolment;
use common::volume::ManifestEnd;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::certificate::{explain, handshake, own};
use super::reach::reach;
use super::{Failed, Ladder, StepName};

/// The longest that the depot's answer is waited for.
const LIMIT: Duration = Duration::from_secs(8);
/// The longest answer that is read: one entry is small.
const ANSWER: usize = 64 * 1024;
const HTTPS: u16 = 443;

#[derive(Debug, Default, Deserialize)]
struct Problem {
    detail: Option<String>,
}

/// Whether it ends as a manifest does.
fn is_manifest(body: &[u8]) -> bool {
    let mut lines = body.split(|byte| *byte == b'\n');
    let last = lines.rfind(|line| !line.is_empty());
    last.is_some_and(|last| serde_json::from_slice::<ManifestEnd>(last).is_ok())
}

pub(super) async fn climb(ladder: &mut Ladder<'_>, enrolment: &Enrolment) -> Result<(), Failed> {
    let url = enrolment.depot();
    ladder.passed(StepName::File, format!("the depot is {}", enrolment.depot_url()));
    let host = url
        .host_str()
        .unwrap_or_default()
        .trim_matches(['[', ']'])
        .to_owned();
    let port = url.port().unwrap_or(HTTPS);
    let reached = reach(ladder, &[(host.clone(), port)]).await?;
    ladder.trying(
        StepName::Certificate,
        format!("{host} and this site show each other their certificates"),
    );
    let valid = own(enrolment)?;
    let stream = handshake(enrolment, &[b"http/1.1"], reached).await?;
    let answered = timeout(LIMIT, ask(stream, &host)).await.unwrap_or_else(|_| {
        Err(Failed::new(
            StepName::Rights,
            format!("no answer within {} s", LIMIT.as_secs()),
            "try again; see the depot's log if it stays so",
        ))
    });
    let (status, body) = match answered {
        Err(failed) if failed.step == StepName::Certificate => return Err(failed),
        answered => {
            ladder.passed(
                StepName::Certificate,
                format!("both sides trust each other; {valid}"),
            );
            answered?
        }
    };
    let told = || {
        serde_json::from_slice::<Problem>(&body)
            .ok()
            .and_then(|problem| problem.detail)
    };
    let failed = |detail: String, remedy: String| Err(Failed::new(StepName::Rights, detail, remedy));
    let site = enrolment.site();
    match status {
        StatusCode::OK if is_manifest(&body) => {
            ladder.passed(StepName::Rights, format!("the depot shows {site} its manifest"));
            Ok(())
        }
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => failed(
            format!(
                "the depot refuses {site}: {}",
                told().unwrap_or_else(|| status.to_string())
            ),
            format!("headquarters must enrol it: `fieldline site add {site}`"),
        ),
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => failed(
            format!(
                "the depot answers {status}: {}",
                told().unwrap_or_else(|| "it does not say why".to_owned())
            ),
            "try again; headquarters sees why in the depot's log".to_owned(),
        ),
        status => failed(
            format!("what answers there is no depot: it says {status}"),
            "check the depot's address and port".to_owned(),
        ),
    }
}

/// Asks for the first entry of this site's manifest.
async fn ask(stream: TlsStream<TcpStream>, host: &str) -> Result<(StatusCode, Vec<u8>), Failed> {
    let lost = |error: &hyper::Error| {
        if error.is_parse() {
            return Failed::new(
                StepName::Rights,
                "what answers there does not speak HTTP",
                "check the depot's address and port",
            );
        }
        explain(error, host)
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| lost(&error))?;
    let request = Request::get("/v1/manifest?limit=1")
        .header(header::HOST, host)
        .header(header::CONNECTION, "close")
        .header(
            header::USER_AGENT,
            concat!("fieldline-viewer/", env!("CARGO_PKG_VERSION")),
        )
        .body(Body::empty())
        .map_err(|error| Failed::new(StepName::Rights, error.to_string(), "check the depot's address"))?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|error| lost(&error))?;
        let status = answer.status();
        let body = axum::body::to_bytes(Body::new(answer.into_body()), ANSWER).await;
        Ok((status, body.map(Vec::from).unwrap_or_default()))
    };
    tokio::pin!(exchange, connection);
    tokio::select! {
        // The connection's own end says less than what the exchange makes of it.
        biased;
        answered = &mut exchange => answered,
        _ended = &mut connection => exchange.await,
    }
}
