//! Accepting connections: each has its place, its time, and the site that its certificate names.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use common::chassis::Stop;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::metrics::Metrics;
use crate::patience::Patient;
use crate::settings::Settings;
use crate::tls;

/// How long answers may go on after the stop.
const DRAIN: Duration = Duration::from_secs(15);

/// What every connection is served with.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) router: Router,
    pub(crate) certificates: watch::Receiver<Arc<ServerConfig>>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) metrics: Metrics,
}

impl Server {
    /// Serves until `stop`; then every connection ends with the answer it is at, or is cut when that takes too long.
    pub(crate) async fn run(self, listener: TcpListener, stop: Stop) {
        let places = Arc::new(Semaphore::new(self.settings.connections));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            // A place first: who finds none waits at the door, which costs nothing here.
            let Some(Ok(place)) = stop
                .run_until_cancelled(Arc::clone(&places).acquire_owned())
                .await
            else {
                break;
            };
            match stop.run_until_cancelled(listener.accept()).await {
                None => break,
                Some(Ok((stream, _))) => {
                    connections.spawn(self.clone().connection(stream, place, stop.clone()));
                }
                Some(Err(error)) if error.kind() == ErrorKind::ConnectionAborted => {}
                Some(Err(error)) => {
                    // As when the process has no file descriptor left: some come back when connections end.
                    tracing::warn!(%error, "cannot accept connections");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
        drop(listener);
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, all).await.is_err() {
            // A site resumes at the chunk where it was cut.
            tracing::info!(cut = connections.len(), "cuts connections that are not done");
        }
    }

    async fn connection(self, stream: TcpStream, place: OwnedSemaphorePermit, stop: Stop) {
        let limits = &self.settings;
        // Only latency would suffer.
        drop(stream.set_nodelay(true));
        let config = Arc::clone(&self.certificates.borrow());
        let accepted = TlsAcceptor::from(config).accept(Patient::new(stream, *limits.stall_timeout));
        let stream = match stop
            .run_until_cancelled(tokio::time::timeout(*limits.handshake_timeout, accepted))
            .await
        {
            Some(Ok(Ok(stream))) => stream,
            Some(Ok(Err(error))) => return tracing::debug!(%error, "handshake failed"),
            Some(Err(_)) => return tracing::debug!("handshake took too long"),
            None => return,
        };
        let Some(certificate) = stream.get_ref().1.peer_certificates().and_then(<[_]>::first) else {
            return;
        };
        let peer = tls::peer(certificate);
        let service = TowerToHyperService::new(self.router.layer(Extension(peer)));
        self.metrics.connections.inc();
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // Also how long a connection may be idle between two requests.
            .header_read_timeout(*limits.idle_timeout)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
        self.metrics.connections.dec();
        drop(place);
    }
}
