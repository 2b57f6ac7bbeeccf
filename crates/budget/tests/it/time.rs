//! Days, windows and confirmations, over streams in memory.

use std::time::Duration;

use budget::{Budget, Class, Hold, Settings};
use testkit::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use units::ByteSize;

const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn spent_bytes_stay_spent_over_a_restart_and_bulk_stops_before_the_rest() {
    let home = testkit::temp_dir();
    let path = home.path().join("budget.json");
    let settings = Settings {
        per_day: Some(ByteSize(10_000)),
        ..Settings::default()
    };
    let budget = Budget::open(settings.clone(), &path).unwrap();
    let (near, mut far) = tokio::io::duplex(100_000);
    let mut near = budget.shape(near, Class::Assets);
    assert_eq!(
        (budget.left(Class::Assets), budget.left(Class::Requests)),
        (Some(9000), Some(10_000))
    );
    near.write_all(&[1; 9000]).await.unwrap();
    assert_eq!(
        (budget.left(Class::Assets), budget.left(Class::Requests)),
        (Some(0), Some(1000))
    );
    assert!(matches!(budget.admits(Class::Assets), Err(Hold::Day { .. })));
    assert_eq!(budget.admits(Class::Requests), Ok(()));
    assert!(timeout(SHORT, near.write_all(b"more")).await.is_err());
    drop((near, budget));

    let budget = Budget::open(settings.clone(), &path).unwrap();
    assert!(
        budget.admits(Class::Backlog).is_err(),
        "the reserve is for others"
    );
    let (near, mut other) = tokio::io::duplex(100_000);
    let mut near = budget.shape(near, Class::Requests);
    near.write_all(&[2; 1000]).await.unwrap();
    assert!(timeout(SHORT, near.write_all(b"more")).await.is_err());
    let status = budget.status();
    assert_eq!((status.day.bytes, status.month.bytes), (10_000, 10_000));
    assert_eq!(status.classes[Class::Assets as usize].day, 9000);
    assert!(matches!(status.held(Class::Requests), Some(Hold::Day { until }) if until == status.day.until));

    budget
        .set(Settings {
            per_day: Some(ByteSize(20_000)),
            ..settings
        })
        .unwrap();
    near.write_all(b"more").await.unwrap();
    let mut came = vec![0; 9000];
    far.read_exact(&mut came).await.unwrap();
    other.read_exact(&mut came[..1004]).await.unwrap();
}

#[tokio::test]
async fn what_was_counted_is_kept_while_the_process_lives() {
    let home = testkit::temp_dir();
    let path = home.path().join("budget.json");
    let budget = Budget::open(Settings::default(), &path).unwrap();
    let (near, _far) = tokio::io::duplex(100_000);
    budget
        .shape(near, Class::Previews)
        .write_all(&[1; 500])
        .await
        .unwrap();
    eventually(Duration::from_secs(20), || async {
        let kept = std::fs::read_to_string(&path).unwrap();
        if kept.contains("\"previews\":500") {
            Ok(())
        } else {
            Err(kept)
        }
    })
    .await;
}

#[tokio::test]
async fn damage_to_the_file_does_not_keep_a_site_from_its_link() {
    let home = testkit::temp_dir();
    let path = home.path().join("budget.json");
    std::fs::write(&path, b"{\"day\":").unwrap();
    let budget = Budget::open(Settings::default(), &path).unwrap();
    assert_eq!(budget.status().day.bytes, 0);
    assert!(Budget::open(Settings::default(), &home.path().join("no/such/budget.json")).is_err());
}

#[tokio::test]
async fn bulk_on_a_metered_link_waits_for_so_many_confirmed_bytes() {
    let budget = Budget::detached(Settings {
        metered: true,
        ..Settings::default()
    })
    .unwrap();
    let (near, _far) = tokio::io::duplex(1 << 20);
    let (urgent, _peer) = tokio::io::duplex(1 << 20);
    budget
        .shape(urgent, Class::Requests)
        .write_all(b"goes")
        .await
        .unwrap();
    let mut bulk = budget.shape(near, Class::Assets);
    assert_eq!(budget.admits(Class::Assets), Err(Hold::Unconfirmed));
    assert!(timeout(SHORT, bulk.write_all(b"stays")).await.is_err());
    let waiting = tokio::spawn({
        let budget = budget.clone();
        async move { budget.admitted(Class::Assets).await }
    });
    budget.confirm(100_000);
    waiting.await.unwrap();
    bulk.write_all(&[1; 60_000]).await.unwrap();
    assert_eq!(budget.status().confirmed, 40_000);
    bulk.write_all(&[1; 60_000]).await.unwrap();
    assert_eq!(budget.admits(Class::Assets), Err(Hold::Unconfirmed));
    budget.confirm(5);
    budget.retract();
    assert_eq!(budget.admits(Class::Previews), Err(Hold::Unconfirmed));
}

#[tokio::test]
async fn outside_the_windows_nothing_crosses_and_the_next_one_is_named() {
    let (near, _far) = tokio::io::duplex(1 << 20);
    let today = jiff::Zoned::now().with_time_zone(jiff::tz::TimeZone::UTC);
    let day = today.date().weekday();
    let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let place = usize::try_from(day.to_monday_zero_offset()).unwrap();
    // Three days away, so that midnight does not matter.
    let window = format!("{} 10:00-11:00", names[(place + 3) % 7]);
    let shut = Settings {
        windows: vec![window.parse().unwrap()],
        ..Settings::default()
    };
    let budget = Budget::detached(shut).unwrap();
    let mut stream = budget.shape(near, Class::Requests);
    assert!(timeout(SHORT, stream.write_all(b"stays")).await.is_err());
    let held = budget.admits(Class::Requests).unwrap_err();
    assert!(
        matches!(held, Hold::Window { until: Some(until) } if until > today.timestamp().as_millisecond())
    );
    let refused = budget.connect("127.0.0.1:9", Class::Requests).await.unwrap_err();
    assert!(refused.to_string().contains("time windows"), "{refused}");
    budget.set(Settings::default()).unwrap();
    stream.write_all(b"goes").await.unwrap();
}
