//! The admin port: `/livez`, `/readyz`, `/metrics`, `/config` (secrets redacted) and `/version`. Services of a site that
//! share a process share one, without `/config`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{Host, HostState, Readiness};

/// Listens at `address` and answers until the service has ended, so that a drain can be watched.
pub(crate) async fn start(host: &Host, address: SocketAddr, config: Value) -> anyhow::Result<()> {
    let listener = bind(address).await?;
    host.listens(
        listener
            .local_addr()
            .context("cannot tell the admin port's address")?,
    );
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/config", get(async || Json(config)))
        .route("/version", get(version))
        .with_state(host.clone());
    let mut state = host.state();
    host.spawn("admin", async move {
        let ended = |state: &HostState| matches!(state, HostState::Stopped | HostState::Failed);
        tokio::select! {
            served = axum::serve(listener, router) => served.context("admin port failed"),
            _ = state.wait_for(ended) => Ok(()),
        }
    });
    Ok(())
}

/// What of a site shares a process.
pub(crate) type Hosts = Arc<dyn Fn() -> Vec<Host> + Send + Sync>;

/// Listens at `address` for all services of a site, and answers while the returned future is polled.
pub(crate) async fn start_for_all(
    address: SocketAddr,
    hosts: Hosts,
) -> anyhow::Result<(SocketAddr, impl Future<Output = std::io::Result<()>> + Send)> {
    let listener = bind(address).await?;
    let address = listener
        .local_addr()
        .context("cannot tell the admin port's address")?;
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(all_ready))
        .route("/metrics", get(all_metrics))
        .route(
            "/version",
            get(async || Json(json!({ "version": env!("CARGO_PKG_VERSION") }))),
        )
        .with_state(hosts);
    Ok((address, axum::serve(listener, router).into_future()))
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen at {address} (setting admin)"))
}

/// Ready when every service is.
async fn all_ready(State(hosts): State<Hosts>) -> (StatusCode, Json<BTreeMap<String, Readiness>>) {
    let mut services = BTreeMap::new();
    for host in hosts() {
        services.insert(host.service().to_owned(), host.readiness().await);
    }
    let ready = !services.is_empty() && services.values().all(|readiness| readiness.ready);
    (status(ready), Json(services))
}

async fn all_metrics(State(hosts): State<Hosts>) -> Response {
    let hosts = hosts();
    page(telemetry::metrics::text(hosts.iter().map(Host::registry)))
}

fn status(ready: bool) -> StatusCode {
    if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

fn page(text: prometheus::Result<String>) -> Response {
    match text {
        Ok(page) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], page).into_response(),
        Err(error) => {
            tracing::warn!(%error, "metrics cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn readyz(State(host): State<Host>) -> (StatusCode, Json<Readiness>) {
    let readiness = host.readiness().await;
    (status(readiness.ready), Json(readiness))
}

async fn metrics(State(host): State<Host>) -> Response {
    page(telemetry::metrics::text([host.registry()]))
}

async fn version(State(host): State<Host>) -> Json<Value> {
    Json(json!({
        "service": host.service(),
        "site": host.site(),
        "instance": host.instance(),
        "version": host.version(),
    }))
}
