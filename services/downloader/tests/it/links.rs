//! Links that must not be followed, and servers that must not be believed: each fails with its reason, none stops the
//! rest.

use crate::server::Server;
use crate::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_link_fails_with_its_reason_and_none_stops_the_rest() {
    let (server, address) = Server::start().await;
    let site = Site::new(address).await;
    server.put("good.txt", b"good".to_vec());
    let at = |path: &str| format!("http://{address}{path}");
    let port = address.port();
    let bad = [
        (at("/none.jpg"), "404"),
        (at("/forbidden"), "403"),
        (
            at("/declared"),
            "declares 5368709120 bytes; downloader.max_bytes is 1MiB",
        ),
        (at("/endless"), "sends more than 1MiB"),
        (at("/empty"), "sent no bytes"),
        (
            at("/always-busy"),
            "500 Internal Server Error; given up after 3 attempts",
        ),
        (
            format!("http://127.0.0.2:{port}/x"),
            "address 127.0.0.2 is a loopback address and not allowed; add",
        ),
        ("http://127.0.0.1:1/x".into(), "on other ports only, not on 1"),
        (
            "http://169.254.169.254/latest/meta-data/".into(),
            "metadata service",
        ),
        (
            at("/redirect?http://169.254.169.254/latest/"),
            "redirects away: address 169.254.169.254",
        ),
        (at("/redirect?http://[::1]/"), "redirects away: address [::1]"),
        (at("/redirect?file:///etc/passwd"), "redirects away"),
        (at("/loop"), "more than 5 redirects"),
        (
            format!("http://localhost:{port}/file/good.txt"),
            "host localhost stands for",
        ),
        (format!("http://[::1]:{port}/"), "loopback"),
        (
            format!("http://[::ffff:127.0.0.1]:{port}/"),
            "an IPv4 address spelt as IPv6",
        ),
        (format!("http://[64:ff9b::7f00:1]:{port}/"), "loopback"),
        ("http://0x7f.2/".into(), "address 127.0.0.2 is a loopback"),
        ("http://10.0.0.1/".into(), "a private address"),
        (
            format!("http://me:secret@127.0.0.1:{port}/file/good.txt"),
            "user name or password",
        ),
        ("ftp://example.org/x".into(), "http and https are"),
        ("no link at all".into(), "no URL"),
    ];
    for (number, (link, _)) in (1..).zip(&bad) {
        site.announce(number, link).await;
    }
    let mut unlinked = testkit::announced(90, "");
    unlinked.link = None;
    site.announces(&unlinked).await;
    let good = site.announce(91, at("/redirect?/file/good.txt")).await;

    let running = site.start();
    for (number, (link, wanted)) in (1..).zip(&bad) {
        let reason = site.failed(&testkit::asset_id(number)).await;
        assert!(reason.contains(wanted), "{link}: {reason}");
        assert!(!reason.contains("secret"), "{reason}");
    }
    assert_eq!(
        site.failed(&unlinked.asset_id).await,
        "the catalogue entry has no link"
    );
    let good = site.downloaded(&good).await;
    assert_eq!(site.bytes(&good).await, b"good");
    assert_eq!(good.file_name.as_deref(), Some("good.txt"));
    assert_eq!(site.staged(), 0, "nothing is left of what failed");
    running.stop().await;
}
