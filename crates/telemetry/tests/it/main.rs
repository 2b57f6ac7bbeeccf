//! The process's one subscriber, with traces going to a collector.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use telemetry::{Log, Settings, Traces, init, service_span};

/// Answers one request and gives it back.
fn collector() -> (String, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        let whole = |request: &[u8]| {
            let head = request.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
            let text = String::from_utf8_lossy(&request[..head]).to_lowercase();
            let length = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok())?;
            (request.len() >= head + 4 + length).then_some(())
        };
        while whole(&request).is_none() {
            let count = stream.read(&mut buffer).unwrap();
            assert!(count > 0, "the request ended early");
            request.extend_from_slice(&buffer[..count]);
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        sender.send(request).unwrap();
    });
    (endpoint, receiver)
}

#[tokio::test]
async fn spans_reach_the_collector_at_shutdown_but_for_the_one_around_the_service() {
    let (endpoint, requests) = collector();
    let settings = Settings {
        log: Log::default(),
        traces: Traces {
            endpoint: Some(endpoint),
            ratio: 1.0,
        },
    };
    let telemetry = init(&settings, "feed").unwrap();
    assert_eq!(
        init(&settings, "feed").unwrap_err().to_string(),
        "telemetry is set up already"
    );
    service_span("core", "feed").in_scope(|| {
        tracing::info_span!("process asset-pipeline", offset = 7).in_scope(|| tracing::info!("announced"));
        tracing::debug_span!("too small a thing").in_scope(|| {});
    });
    tokio::task::spawn_blocking(move || telemetry.shutdown())
        .await
        .unwrap();
    let request = requests.recv_timeout(Duration::from_secs(20)).unwrap();
    let text = String::from_utf8_lossy(&request);
    assert!(text.starts_with("POST /v1/traces HTTP/1.1"), "{text}");
    assert!(
        text.contains("process asset-pipeline") && text.contains("service.name"),
        "{text}"
    );
    assert!(
        !text.contains("too small a thing") && !text.contains("telemetry::service"),
        "{text}"
    );
}
