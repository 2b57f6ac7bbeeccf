//! The admin port: `/livez`, `/readyz`, `/metrics`, `/config` (secrets redacted) and `/version`.

use std::net::SocketAddr;

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
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen at {address} (setting admin)"))?;
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

async fn readyz(State(host): State<Host>) -> (StatusCode, Json<Readiness>) {
    let readiness = host.readiness().await;
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(readiness))
}

async fn metrics(State(host): State<Host>) -> Response {
    match telemetry::metrics::text([host.registry()]) {
        Ok(page) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], page).into_response(),
        Err(error) => {
            tracing::warn!(%error, "metrics cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn version(State(host): State<Host>) -> Json<Value> {
    Json(json!({
        "service": host.service(),
        "site": host.site(),
        "instance": host.instance(),
        "version": host.version(),
    }))
}
