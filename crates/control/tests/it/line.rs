//! Commands come in, reports go out.

use broker::{Outgoing, TopicSpec};
use chassis::{Host, Service, Settings, Stop, run_in};
use control::{Control, ask, finished, order, set};
use schemas::{Desired, ServiceControl, ServiceState, topic};
use serde::{Deserialize, Serialize};
use testkit::eventually;

use crate::{LIMIT, bare, make_topics, ready, reports};

fn told(service: &str, desired: Desired, log_level: Option<&str>) -> ServiceControl {
    let log_level = log_level.map(Into::into);
    ServiceControl {
        service: service.into(),
        desired,
        log_level,
        asked_by: Some("test".into()),
        asked_at: 1,
    }
}

async fn until(control: &Control, desired: Desired) {
    let mut watch = control.told();
    let reached = watch.wait_for(|now| now.desired == desired);
    tokio::time::timeout(LIMIT, reached).await.unwrap().unwrap();
}

#[tokio::test]
async fn newest_command_is_known_before_the_work_begins_and_later_ones_follow() {
    let (_dir, broker) = ready().await;
    for desired in [Desired::Running, Desired::Paused] {
        ask(&broker, "feed", desired, None).await.unwrap();
    }
    ask(&broker, "link", Desired::Running, Some("somebody"))
        .await
        .unwrap();
    let host = Host::detached("feed", "core");
    let control = Control::attach(&host, &broker).await.unwrap();
    assert_eq!(control.told().borrow().desired, Desired::Paused);
    ask(&broker, "feed", Desired::Running, Some("somebody"))
        .await
        .unwrap();
    until(&control, Desired::Running).await;
    // A tombstone takes the command back.
    let producer = broker.producer().unwrap();
    ask(&broker, "feed", Desired::Paused, None).await.unwrap();
    until(&control, Desired::Paused).await;
    let none = Outgoing {
        value: None,
        ..Outgoing::new(topic::SERVICE_CONTROL, "feed", Vec::new())
    };
    producer.send(none).await.unwrap();
    until(&control, Desired::Running).await;
    host.stop().cancel();
}

#[tokio::test]
async fn what_is_set_is_known_before_the_work_begins_and_taken_back_with_no_value() {
    let (_dir, broker) = ready().await;
    set(&broker, "link", "cap", Some("1".into()), None).await.unwrap();
    set(&broker, "link", "cap", Some("2".into()), Some("somebody"))
        .await
        .unwrap();
    set(&broker, "mirror", "cap", Some("3".into()), None)
        .await
        .unwrap();
    let host = Host::detached("link", "edge-1");
    let control = Control::attach(&host, &broker).await.unwrap();
    let mut settings = control.settings();
    let now = settings.borrow_and_update().clone();
    assert_eq!(now.len(), 1);
    assert_eq!(
        (now["cap"].value.as_str(), now["cap"].asked_by.as_deref()),
        ("2", Some("somebody"))
    );
    assert_eq!(
        control.told().borrow().desired,
        Desired::Running,
        "it is no command"
    );
    set(&broker, "link", "cap", None, None).await.unwrap();
    let back = settings.wait_for(|now| now.is_empty());
    tokio::time::timeout(LIMIT, back).await.unwrap().unwrap();
    host.stop().cancel();
}

#[tokio::test]
async fn service_that_waits_to_be_told_is_paused_until_then() {
    let (_dir, broker) = ready().await;
    let host = Host::detached("mirror", "edge-1");
    let control = Control::attach_paused(&host, &broker).await.unwrap();
    assert_eq!(control.told().borrow().desired, Desired::Paused);
    ask(&broker, "mirror", Desired::Running, None).await.unwrap();
    until(&control, Desired::Running).await;
    host.stop().cancel();
}

#[tokio::test]
async fn attaching_waits_for_topics_that_are_not_made_yet_and_ends_with_the_host() {
    let (_dir, broker) = bare().await;
    let host = Host::detached("feed", "core");
    let attaching = tokio::spawn({
        let (host, broker) = (host.clone(), broker.clone());
        async move { Control::attach(&host, &broker).await }
    });
    make_topics(&broker).await;
    tokio::time::timeout(LIMIT, attaching)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    host.stop().cancel();

    let (_other, broker) = bare().await;
    let host = Host::detached("feed", "core");
    host.stop().cancel();
    let error = Control::attach(&host, &broker).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "stopped before it was known what feed should do"
    );
}

#[tokio::test]
async fn log_level_comes_with_the_command_and_goes_with_the_next() {
    let (_dir, broker) = ready().await;
    let host = Host::detached("feed", "core");
    order(&broker, &told("feed", Desired::Running, Some("debug")))
        .await
        .unwrap();
    let _control = Control::attach(&host, &broker).await.unwrap();
    let level = || host.telemetry().level("core", "feed");
    assert_eq!(level(), "debug");
    for (sent, expected) in [
        (Some("feed=trace"), "feed=trace"),
        (Some("nonsense"), "feed=trace"),
        (None, ""),
    ] {
        order(&broker, &told("feed", Desired::Running, sent))
            .await
            .unwrap();
        eventually(LIMIT, || async {
            if level() == expected { Ok(()) } else { Err(level()) }
        })
        .await;
    }
    host.stop().cancel();
}

#[tokio::test]
async fn unreadable_command_is_skipped() {
    let (_dir, broker) = ready().await;
    let record = Outgoing::new(topic::SERVICE_CONTROL, "feed", b"rubbish".to_vec());
    broker.producer().unwrap().send(record).await.unwrap();
    let host = Host::detached("feed", "core");
    let control = Control::attach(&host, &broker).await.unwrap();
    assert_eq!(control.told().borrow().desired, Desired::Running);
    host.stop().cancel();
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Url {
    broker: broker::Settings,
    fail: bool,
}

impl Settings for Url {
    fn validate(&self) -> Result<(), Vec<String>> {
        Ok(())
    }
}

struct Worker(Control, bool);

impl Service for Worker {
    const NAME: &'static str = "worker";
    type Settings = Url;

    async fn build(settings: Url, host: &Host) -> anyhow::Result<Self> {
        let broker = broker::Broker::open(&settings.broker, "worker", host.registry()).await?;
        Ok(Self(Control::attach(host, &broker).await?, settings.fail))
    }

    async fn run(self, stop: Stop) -> anyhow::Result<()> {
        let Self(control, fail) = self;
        control.count("records", 2);
        control.count("records", 3);
        control.gauge("lag", 1.5);
        control.error("one went wrong");
        control.waiting("no link");
        stop.cancelled().await;
        if fail {
            Err(anyhow::anyhow!("broke"))
        } else {
            Ok(())
        }
    }
}

#[tokio::test]
async fn every_step_of_a_service_is_reported_the_last_one_too() {
    for (fail, end) in [(false, ServiceState::Stopped), (true, ServiceState::Failed)] {
        let (_dir, broker) = ready().await;
        let settings = Url {
            broker: broker::Settings::url(testkit::sqlite(_dir.path(), "broker.db")),
            fail,
        };
        let host = Host::detached("worker", "core");
        let run = tokio::spawn(run_in::<Worker>(host.clone(), settings));
        let waiting = eventually(LIMIT, || async {
            let last = reports(&broker, &host).await.pop();
            last.filter(|last| last.state == ServiceState::Waiting)
                .ok_or("not waiting yet")
        })
        .await;
        assert_eq!(waiting.detail.as_deref(), Some("no link"));
        assert_eq!((waiting.counters["records"], waiting.gauges["lag"]), (5, 1.5));
        assert_eq!(waiting.last_error.as_deref(), Some("one went wrong"));
        assert!(waiting.last_error_at.is_some() && waiting.reported_at >= waiting.started_at);
        host.stop().cancel();
        assert_eq!(run.await.unwrap().is_err(), fail);
        let last = reports(&broker, &host).await.pop().unwrap();
        assert_eq!(last.state, end);
        assert_eq!(last.detail.as_deref(), fail.then_some("broke"));
    }
}

#[tokio::test]
async fn report_is_repeated_when_nothing_changes() {
    let (_dir, broker) = ready().await;
    let host = Host::detached("feed", "core");
    let _control = Control::attach(&host, &broker).await.unwrap();
    host.ready();
    eventually(LIMIT, || async {
        let running = reports(&broker, &host).await;
        let count = running
            .iter()
            .filter(|report| report.state == ServiceState::Running)
            .count();
        if count >= 2 {
            Ok(())
        } else {
            Err(format!("{count} reports"))
        }
    })
    .await;
    host.stop().cancel();
}

#[tokio::test]
async fn reports_that_cannot_be_sent_harm_nobody() {
    let (_dir, broker) = ready().await;
    let host = Host::detached("feed", "core");
    let control = Control::attach(&host, &broker).await.unwrap();
    broker.delete_topic(topic::SERVICE_STATUS).await.unwrap();
    for count in 0..10_000 {
        control.waiting(format!("reason {count}"));
        control.count("records", 1);
    }
    assert!(!host.stop().is_cancelled());
    assert_eq!(control.status().counters["records"], 10_000);
    make_topics(&broker).await;
    host.ready();
    eventually(LIMIT, || async {
        let last = reports(&broker, &host).await.pop();
        last.filter(|last| last.detail.as_deref() == Some("reason 9999"))
            .map(drop)
            .ok_or("not reported yet")
    })
    .await;
    host.stop().cancel();
}

#[tokio::test]
async fn command_given_while_an_earlier_one_is_declared_done_stands() {
    let (_dir, broker) = ready().await;
    let host = Host::detached("mirror", "edge-1");
    let control = Control::attach_paused(&host, &broker).await.unwrap();
    let first = told("mirror", Desired::Running, Some("debug"));
    let second = ServiceControl {
        asked_at: 2,
        ..first.clone()
    };
    order(&broker, &first).await.unwrap();
    until(&control, Desired::Running).await;
    order(&broker, &second).await.unwrap();
    finished(&broker, "mirror", 1).await.unwrap();
    // Both are read by now when a later one is.
    let again = Control::attach_paused(&host, &broker).await.unwrap();
    assert_eq!(again.told().borrow().desired, Desired::Running);
    finished(&broker, "mirror", 2).await.unwrap();
    until(&control, Desired::Paused).await;
    let after = Control::attach_paused(&host, &broker).await.unwrap();
    assert_eq!(after.told().borrow().desired, Desired::Paused);
    host.stop().cancel();
}

struct Stuck;

impl broker::Handler for Stuck {
    async fn handle(&self, _record: broker::Record) -> Result<(), broker::Failure> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn how_far_a_services_consumers_are_behind_stands_in_its_reports() {
    let (_dir, broker) = ready().await;
    broker.create_topic(&TopicSpec::new("work", 1)).await.unwrap();
    let records = (0..7).map(|number| Outgoing::new("work", format!("{number}"), vec![1]));
    broker
        .producer()
        .unwrap()
        .send_all(records.collect())
        .await
        .unwrap();
    let host = Host::detached("downloader", "core");
    let _control = Control::attach(&host, &broker).await.unwrap();
    host.ready();
    let settings = broker::ConsumerSettings::group("downloader");
    let consumer = broker
        .consumer(broker::Subscription::topics(["work"]), settings)
        .unwrap();
    let running = tokio::spawn(consumer.run(std::sync::Arc::new(Stuck), Stop::new()));
    eventually(LIMIT, || async {
        let last = reports(&broker, &host).await.pop().ok_or("no report")?;
        let lag = last.gauges.get("lag_records").copied();
        (lag == Some(7.0)).then_some(()).ok_or("not behind yet")
    })
    .await;
    running.abort();
    host.stop().cancel();
}
