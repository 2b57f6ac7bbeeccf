//! feed's effects, seen from outside.

use std::collections::HashSet;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use common::broker::Outgoing;
use common::schemas::{AssetId, AssetState, ServiceState, encode, topic};
use feed::{Order, Rewrite, Settings, sample};
use reqwest::{Client, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::site::Site;

fn client() -> Client {
    // Another test may have installed it already.
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::builder().no_proxy().build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sample_is_announced_once_and_its_links_are_real() {
    let site = Site::new().await;
    let running = site.start(site.feed("sample:"));
    let assets = site.announced(sample::COUNT).await;
    let ids: HashSet<_> = assets.iter().map(|asset| asset.asset_id.clone()).collect();
    assert_eq!(ids.len(), sample::COUNT);
    let first = assets
        .iter()
        .find(|asset| asset.native_id == "contours-02.png")
        .unwrap();
    assert_eq!(first.asset_id, AssetId::derive("sample", "contours-02.png"));
    assert!(first.title.len() > 5 && first.credit.is_some() && first.expires_at.is_none());

    let answer = client().get(first.link.clone().unwrap()).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "image/png");
    let bytes = answer.bytes().await.unwrap();
    assert_eq!(
        bytes,
        sample::encode(sample::index("contours-02.png").unwrap()).unwrap()
    );

    site.says("catalogue exhausted").await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_neither_repeats_nor_undoes() {
    let site = Site::new().await;
    let slow = Settings {
        interval: "60s".parse().unwrap(),
        batch: 1,
        ..site.feed("sample:")
    };
    let running = site.start(slow);
    let first = site.announced(1).await.remove(0);
    running.stop().await;

    let downloaded = common::schemas::Asset {
        state: AssetState::Downloaded,
        ..first.clone()
    };
    let record = Outgoing::new(
        topic::ASSET_PIPELINE,
        first.asset_id.as_str(),
        encode(&downloaded).unwrap(),
    );
    site.broker.producer().unwrap().send(record).await.unwrap();

    let running = site.start(site.feed("sample:"));
    let status = site.says("catalogue exhausted").await;
    assert_eq!(status.state, ServiceState::Waiting);
    running.stop().await;
    let records = site.pipeline().await;
    let announced: Vec<_> = records
        .iter()
        .filter(|asset| asset.state == AssetState::Announced)
        .collect();
    assert_eq!(announced.len(), sample::COUNT);
    let of_first: Vec<_> = records
        .iter()
        .filter(|asset| asset.asset_id == first.asset_id)
        .collect();
    assert_eq!(of_first.last().unwrap().state, AssetState::Downloaded);

    // And once more, with nothing left to say.
    let running = site.start(site.feed("sample:"));
    site.says("catalogue exhausted").await;
    running.stop().await;
    assert_eq!(site.pipeline().await.len(), records.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn repeat_announces_other_assets_with_the_same_links() {
    let site = Site::new().await;
    let settings = Settings {
        repeat: true,
        batch: 50,
        order: Order::Catalogue,
        public_url: Some("http://pictures.example/x/".into()),
        expires_after: Some("1h".parse().unwrap()),
        ..site.feed("sample:")
    };
    let running = site.start(settings);
    let assets = site.announced(sample::COUNT + 1).await;
    running.stop().await;
    let again = assets
        .iter()
        .find(|asset| asset.native_id == "mountains-01.jpg#2")
        .unwrap();
    assert_eq!(
        again.link.as_deref(),
        Some("http://pictures.example/x/assets/mountains-01.jpg")
    );
    assert_eq!(again.expires_at, Some(again.announced_at + 3_600_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn directory_is_announced_with_its_sidecars_and_served_safely() {
    let site = Site::new().await;
    let files = site.directory.path().join("files");
    std::fs::create_dir_all(files.join("below")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(files.join(name), text).unwrap();
    write("winter_storm.txt", "0123456789");
    write("map 1+2.bin", "map");
    write(
        "map 1+2.bin.json",
        r#"{"title": "A <b>map</b>", "description": "of\nhere", "credit": "Ann"}"#,
    );
    write("report.pdf", "%PDF-1.7");
    write("report.pdf.toml", "title = 'Report'");
    write("broken.txt", "x");
    write("broken.txt.json", "{");
    write("lonely.json", "{}");
    write(".hidden", "x");
    write("below/secret.txt", "x");
    std::fs::write(site.directory.path().join("outside.txt"), "secret").unwrap();
    std::os::unix::fs::symlink(site.directory.path().join("outside.txt"), files.join("link.txt")).unwrap();

    let running = site.start(site.feed(format!("dir://{}", files.display())));
    let status = site.says("catalogue exhausted").await;
    assert!(
        status.last_error.unwrap().contains("broken.txt"),
        "the bad sidecar is named"
    );
    let assets = site.announced(4).await;
    let mut names: Vec<_> = assets.iter().map(|asset| asset.native_id.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["lonely.json", "map 1+2.bin", "report.pdf", "winter_storm.txt"]
    );
    let named = |name: &str| assets.iter().find(|asset| asset.native_id == name).unwrap();
    assert_eq!(named("winter_storm.txt").title, "winter storm");
    assert_eq!(named("report.pdf").title, "Report");
    let map = named("map 1+2.bin");
    assert_eq!(
        (map.title.as_str(), map.description.as_str()),
        ("A <b>map</b>", "of here")
    );
    assert_eq!(map.credit.as_deref(), Some("Ann"));

    let client = client();
    let link = map.link.clone().unwrap();
    assert_eq!(
        client.get(&link).send().await.unwrap().text().await.unwrap(),
        "map"
    );
    let storm = named("winter_storm.txt").link.clone().unwrap();
    let part = client
        .get(&storm)
        .header("range", "bytes=4-")
        .send()
        .await
        .unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.text().await.unwrap(), "456789");

    let address = link
        .strip_prefix("http://")
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    for path in [
        "/assets/../outside.txt",
        "/assets/..%2foutside.txt",
        "/assets/%2e%2e%2foutside.txt",
        "/assets/link.txt",
        "/assets/.hidden",
        "/assets/below",
        "/assets/below/secret.txt",
        "/assets/below%2fsecret.txt",
        "/assets/%2fetc%2fpasswd",
        "/assets/none.txt",
        "/",
    ] {
        let answer = raw_get(&address, path).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
    running.stop().await;
}

/// Asks without a client that would tidy the path.
async fn raw_get(address: &str, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

const SEARCH: &str = r#"{"collection": {"items": [
    {"data": [{"nasa_id": "A-1", "title": "<script>alert(1)</script> \u001b[31mMars"}],
     "links": [{"rel": "preview", "href": "https://images-assets.example/image/A-1/A-1~thumb.jpg"}]},
    {"data": [{"nasa_id": "A-2", "title": "No link"}]},
    {"data": "nonsense"}
]}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn nasa_search_is_announced_with_links_rewritten() {
    let site = Site::new().await;
    let path = site.directory.path().join("search.json");
    std::fs::write(&path, SEARCH).unwrap();
    let settings = Settings {
        rewrite: vec![Rewrite {
            from: "https://images-assets.example/".into(),
            to: "http://mirror.local/".into(),
        }],
        ..site.feed(format!("nasa-file://{}", path.display()))
    };
    let running = site.start(settings);
    site.says("catalogue exhausted").await;
    running.stop().await;
    let assets = site.announced(2).await;
    assert_eq!(assets.len(), 2);
    let linked = assets.iter().find(|asset| asset.native_id == "A-1").unwrap();
    assert_eq!(
        linked.link.as_deref(),
        Some("http://mirror.local/image/A-1/A-1~thumb.jpg")
    );
    assert_eq!(linked.title, "<script>alert(1)</script> [31mMars");
    assert_eq!(linked.asset_id, AssetId::derive("nasa", "A-1"));
    assert_eq!(
        assets.iter().find(|asset| asset.native_id == "A-2").unwrap().link,
        None
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn live_catalogue_is_tried_again_until_it_answers() {
    let site = Site::new().await;
    let (address, calls) = serve_late(SEARCH).await;
    let settings = Settings {
        refresh: Duration::from_millis(50).into(),
        ..site.feed(format!("nasa+http://{address}/search?q=mars"))
    };
    let running = site.start(settings);
    site.announced(2).await;
    running.stop().await;
    assert!(calls.load(std::sync::atomic::Ordering::Relaxed) >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn live_feed_is_announced_as_text() {
    let site = Site::new().await;
    let (address, _) = serve_late(
        r#"<rss version="2.0"><channel><title>N</title><link>http://n/</link><description>d</description>
        <item><guid>n-1</guid><title>One</title><description>&lt;p onclick='x'&gt;Hello &amp;amp; you&lt;/p&gt;</description>
        <enclosure url="http://n/1.jpg" length="3" type="image/jpeg"/></item></channel></rss>"#,
    )
    .await;
    let settings = Settings {
        refresh: Duration::from_millis(50).into(),
        ..site.feed(format!("rss+http://{address}/feed"))
    };
    let running = site.start(settings);
    let asset = site.announced(1).await.remove(0);
    running.stop().await;
    assert_eq!(
        (asset.title.as_str(), asset.description.as_str()),
        ("One", "Hello & you")
    );
    assert_eq!(asset.link.as_deref(), Some("http://n/1.jpg"));
}

/// A server that fails twice before it answers.
async fn serve_late(
    body: &'static str,
) -> (std::net::SocketAddr, std::sync::Arc<std::sync::atomic::AtomicU32>) {
    let calls = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = calls.clone();
    let answer = get(move || async move {
        match counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 | 1 => (StatusCode::SERVICE_UNAVAILABLE, "later"),
            _ => (StatusCode::OK, body),
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    (address, calls)
}
