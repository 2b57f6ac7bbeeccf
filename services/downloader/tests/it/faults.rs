//! Connections that break, servers that are busy, stops in the middle.

use crate::server::{Server, long_body};
use fixtures::LIMIT;
use testkit::eventually;

use crate::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn download_resumes_by_range_where_it_was_cut() {
    let (server, address) = Server::start().await;
    let site = Site::new(address).await;
    let running = site.start();
    let id = site.announce(1, format!("http://{address}/cut")).await;
    let asset = site.downloaded(&id).await;
    assert!(site.bytes(&asset).await == long_body());
    let asked = server.asked("/cut");
    assert_eq!(asked.len(), 2);
    let range = asked[1].as_deref().expect("the second attempt asks for the rest");
    let from: usize = range
        .trim_start_matches("bytes=")
        .trim_end_matches('-')
        .parse()
        .unwrap();
    assert!((1..=150_000).contains(&from), "{range}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn download_starts_anew_where_the_file_changed_or_ranges_are_not_served() {
    let (_server, address) = Server::start().await;
    let site = Site::new(address).await;
    let running = site.start();
    let changed = site.announce(1, format!("http://{address}/cut-changed")).await;
    let whole = site.announce(2, format!("http://{address}/cut-whole")).await;
    let changed = site.downloaded(&changed).await;
    assert_eq!(site.bytes(&changed).await, b"another file");
    let whole = site.downloaded(&whole).await;
    assert!(site.bytes(&whole).await == long_body());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_server_is_asked_again() {
    let (server, address) = Server::start().await;
    let site = Site::new(address).await;
    let running = site.start();
    let id = site.announce(1, format!("http://{address}/busy")).await;
    let asset = site.downloaded(&id).await;
    assert_eq!(site.bytes(&asset).await, b"at last");
    assert_eq!(server.asked("/busy").len(), 3);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_in_the_middle_leaves_nothing_and_the_next_start_finishes() {
    let (server, address) = Server::start().await;
    let site = Site::new(address).await;
    let running = site.start();
    let id = site.announce(1, format!("http://{address}/slow")).await;
    eventually(LIMIT, async || {
        if server.asked("/slow").is_empty() {
            Err("not asked yet")
        } else {
            Ok(())
        }
    })
    .await;
    running.stop().await;
    assert_eq!(site.outcomes(&id).await, []);
    assert_eq!(site.staged(), 0);

    server.open();
    let running = site.start();
    server.open();
    let asset = site.downloaded(&id).await;
    assert_eq!(site.bytes(&asset).await, b"the start and the rest");
    running.stop().await;
}
