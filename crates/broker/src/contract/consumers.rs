//! Rules of the consumer loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::probe::{Probe, committed_is, finish, start};
use super::{Lab, name, numbered, read, text};
use crate::consumer::{ConsumerSettings, Subscription};
use crate::dead_letter::{DeadLetter, dead_letter_topic};
use crate::error::Error;
use crate::handler::{Failure, Handler};
use crate::record::{Outgoing, Position, Record};

/// A consumer that ends between effect and commit leaves the record to the next one.
pub async fn a_crash_before_the_commit_repeats_the_record(lab: &Lab) {
    let (broker, group) = (lab.open().await, name("group"));
    let topic = lab.topic(&broker, 1).await;
    broker
        .producer()
        .unwrap()
        .send_all(numbered(&topic, "k", 0..5))
        .await
        .unwrap();
    let probe = Probe::holding(vec![3], |_, _| Ok(()));
    let (_stop, running) = start(&broker, &topic, &group, &probe);
    timeout(lab.limit, probe.entered.notified())
        .await
        .expect("record 3 is reached");
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    let again = Probe::new(|_, _| Ok(()));
    let running = start(&broker, &topic, &group, &again);
    lab.eventually(async || match again.texts().last() {
        Some(last) if last == "4" => Ok(()),
        last => Err(format!("last is {last:?}")),
    })
    .await;
    finish(lab, running).await;
    assert!(again.texts().contains(&"3".to_owned()));
    committed_is(lab, &broker, &group, &topic, &[(0, 5)]).await;
}

/// Records behind a slow one are handled, but not committed before it.
pub async fn the_lowest_unfinished_offset_is_committed(lab: &Lab) {
    let (broker, group) = (lab.open().await, name("group"));
    let topic = lab.topic(&broker, 1).await;
    let records = (0..10).map(|n| Outgoing::new(&topic, format!("k{n}"), n.to_string().into_bytes()));
    broker
        .producer()
        .unwrap()
        .send_all(records.collect())
        .await
        .unwrap();
    let probe = Probe::holding(vec![3], |_, _| Ok(()));
    let running = start(&broker, &topic, &group, &probe);
    probe.reached(lab, 9).await;
    committed_is(lab, &broker, &group, &topic, &[(0, 3)]).await;
    probe.gate.notify_one();
    committed_is(lab, &broker, &group, &topic, &[(0, 10)]).await;
    finish(lab, running).await;
}

/// What cannot be processed is put aside with its reason, the rest goes on, and it can be sent back.
pub async fn poison_becomes_a_dead_letter_and_can_be_redriven(lab: &Lab) {
    let (broker, group) = (lab.open().await, name("group"));
    let topic = lab.topic(&broker, 1).await;
    let records = numbered(&topic, "k", 0..3)
        .into_iter()
        .map(|record| record.with_header("h", "v"));
    broker
        .producer()
        .unwrap()
        .send_all(records.collect())
        .await
        .unwrap();
    let probe = Probe::new(|record, attempt| match text(record).as_str() {
        "1" if attempt < 3 => Err(Failure::poison("cannot be read")),
        _ => Ok(()),
    });
    let running = start(&broker, &topic, &group, &probe);
    probe.reached(lab, 2).await;
    committed_is(lab, &broker, &group, &topic, &[(0, 3)]).await;
    let letters = dead_letter_topic(&topic);
    let record = read(lab, &broker, Position::beginning(&letters, 0), 1)
        .await
        .remove(0);
    let letter = DeadLetter::of(&record).unwrap();
    assert_eq!(
        (letter.topic.as_str(), letter.partition, letter.offset),
        (topic.as_str(), 0, 1)
    );
    assert_eq!(letter.error, "cannot be read");
    assert_eq!(
        (text(&record).as_str(), record.header("h").unwrap().as_ref()),
        ("1", &b"v"[..])
    );
    broker.redrive(&letters, 0, record.offset).await.unwrap();
    probe.reached(lab, 3).await;
    finish(lab, running).await;
    let handled = probe.handled.lock().unwrap();
    let redriven = handled.last().unwrap();
    assert_eq!(text(redriven), "1");
    assert!(redriven.header("redriven").is_some() && redriven.header("error").is_none());
}

/// A record that is tried again holds back those of its key, not those of others.
pub async fn retries_keep_the_order_of_a_key(lab: &Lab) {
    let (broker, group) = (lab.open().await, name("group"));
    let topic = lab.topic(&broker, 1).await;
    let mut records = numbered(&topic, "a", 0..3);
    records.extend(numbered(&topic, "b", 10..13));
    broker.producer().unwrap().send_all(records).await.unwrap();
    let failures = AtomicUsize::new(0);
    let probe = Probe::new(move |record, _| {
        if text(record) == "0" && failures.fetch_add(1, Ordering::Relaxed) < 3 {
            return Err(Failure::retry("not yet"));
        }
        Ok(())
    });
    let running = start(&broker, &topic, &group, &probe);
    probe.reached(lab, 6).await;
    finish(lab, running).await;
    let texts = probe.texts();
    let of = |key: &[&str]| {
        texts
            .iter()
            .filter(|text| key.contains(&text.as_str()))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(of(&["0", "1", "2"]), ["0", "1", "2"]);
    assert_eq!(of(&["10", "11", "12"]), ["10", "11", "12"]);
    assert_eq!(texts[0], "10", "the other key did not wait");
}

/// Going on would do harm: the consumer ends and the record is not committed.
pub async fn a_fatal_failure_and_a_panic_end_the_consumer(lab: &Lab) {
    let (broker, group) = (lab.open().await, name("group"));
    let topic = lab.topic(&broker, 1).await;
    broker
        .producer()
        .unwrap()
        .send_all(numbered(&topic, "k", 0..3))
        .await
        .unwrap();
    let fatal = Probe::new(|record, _| {
        if record.offset == 1 {
            Err(Failure::fatal("no more"))
        } else {
            Ok(())
        }
    });
    let panics = Probe::new(|record, _| {
        if record.offset == 1 {
            panic!("a bug")
        } else {
            Ok(())
        }
    });
    for probe in [fatal, panics] {
        let (_stop, running) = start(&broker, &topic, &group, &probe);
        let ended = timeout(lab.limit, running).await.expect("it ends").unwrap();
        assert!(
            matches!(ended, Err(Error::Handler { offset: 1, .. })),
            "{ended:?}"
        );
        assert_eq!(broker.committed(&group, &topic).await.unwrap(), [(0, 1)]);
    }
}

/// Counts how many of it run at once.
struct Crowd {
    running: AtomicUsize,
    most: AtomicUsize,
    handled: AtomicUsize,
}

impl Handler for Crowd {
    async fn handle(&self, _record: Record) -> Result<(), Failure> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        sleep(Duration::from_millis(1)).await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        self.handled.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// Far more records than may be in flight are handled a few at a time, and all of them are.
pub async fn handlers_run_at_once_up_to_the_bound(lab: &Lab) {
    let (broker, group) = (lab.open().await, name("group"));
    let topic = lab.topic(&broker, 2).await;
    let records = (0..2000).map(|n| Outgoing::new(&topic, format!("k{n}"), vec![0; 2000]));
    broker
        .producer()
        .unwrap()
        .send_all(records.collect())
        .await
        .unwrap();
    let mut settings = ConsumerSettings::group(&group);
    settings.in_flight = 8;
    let consumer = broker.consumer(Subscription::topics([&topic]), settings).unwrap();
    let crowd = Arc::new(Crowd {
        running: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
        handled: AtomicUsize::new(0),
    });
    let stop = CancellationToken::new();
    let running = tokio::spawn(consumer.run(crowd.clone(), stop.clone()));
    lab.eventually(async || match crowd.handled.load(Ordering::SeqCst) {
        2000 => Ok(()),
        handled => Err(format!("{handled} of 2000 handled")),
    })
    .await;
    finish(lab, (stop, running)).await;
    let most = crowd.most.load(Ordering::SeqCst);
    assert!((2..=8).contains(&most), "{most} ran at once");
    let committed: i64 = broker
        .committed(&group, &topic)
        .await
        .unwrap()
        .iter()
        .map(|(_, offset)| offset)
        .sum();
    assert_eq!(committed, 2000);
}

/// A handler that does not end is seen in the lag, and holds up a stop for the drain time and no longer; its record comes
/// again.
pub async fn stopping_waits_for_handlers_only_so_long(lab: &Lab) {
    let (broker, group) = (lab.open().await, name("group"));
    let topic = lab.topic(&broker, 1).await;
    broker
        .producer()
        .unwrap()
        .send_all(numbered(&topic, "k", 0..3))
        .await
        .unwrap();
    let probe = Probe::holding(vec![1], |_, _| Ok(()));
    let mut settings = ConsumerSettings::group(&group);
    settings.drain = Duration::from_millis(200);
    let consumer = broker.consumer(Subscription::topics([&topic]), settings).unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(consumer.run(probe.clone(), stop.clone()));
    timeout(lab.limit, probe.entered.notified())
        .await
        .expect("record 1 is reached");
    lab.eventually(async || match broker.consumer_lag() {
        Some(2.0) => Ok(()),
        lag => Err(format!("{lag:?} records behind")),
    })
    .await;
    let begun = Instant::now();
    finish(lab, (stop, running)).await;
    assert!(
        begun.elapsed() >= Duration::from_millis(200),
        "the handler had its time"
    );
    assert_eq!(broker.committed(&group, &topic).await.unwrap(), [(0, 1)]);
}
