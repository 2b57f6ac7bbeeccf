//! A service whose core is named by the site's enrolment, in the order in which a site meets it.

use std::fs;
use std::path::{Path, PathBuf};

use broker::Broker;
use chassis::{Config, Entry, Group, Host, Service, Settings, Stop};
use control::{Control, Enrolled, NeedsEnrolment};
use identity::{Authority, Enrolment, Unpacked};
use schemas::{ServiceState, ServiceStatus, topic};
use serde::{Deserialize, Serialize};
use telemetry::Telemetry;
use testkit::eventually;

use crate::{LIMIT, ready};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Plan {
    broker: broker::Settings,
    core: String,
    key: PathBuf,
    enrolment: Option<PathBuf>,
}

impl Settings for Plan {
    fn validate(&self) -> Result<(), Vec<String>> {
        Ok(())
    }
}

/// Says what its core is.
struct Probe(Control);

impl Service for Probe {
    const NAME: &'static str = "probe";
    type Settings = Plan;

    async fn build(plan: Plan, host: &Host) -> anyhow::Result<Self> {
        let broker = Broker::open(&plan.broker, Self::NAME, host.registry()).await?;
        let control = Control::attach(host, &broker).await?;
        let key = fs::read_to_string(&plan.key)?;
        assert!(key.contains("PRIVATE KEY"));
        control.error(plan.core);
        Ok(Self(control))
    }

    async fn run(self, stop: Stop) -> anyhow::Result<()> {
        let control = self.0;
        control
            .supervise(stop, |stop| async move {
                stop.cancelled().await;
                Ok(())
            })
            .await
    }
}

impl NeedsEnrolment for Probe {
    fn enrolment(settings: &Plan) -> Option<&Path> {
        settings.enrolment.as_deref().filter(|_| settings.core.is_empty())
    }

    fn broker(settings: &Plan) -> &broker::Settings {
        &settings.broker
    }

    fn connect(settings: &mut Plan, enrolment: &Enrolment, certificates: &Unpacked) {
        settings.core = enrolment.broker().to_string();
        settings.key = certificates.key.clone();
    }
}

fn enrolment(directory: &Path, site: &str) -> Enrolment {
    let certs = directory.join("certs");
    let authority = Authority::load(&certs)
        .or_else(|_| Authority::create(&certs))
        .unwrap();
    let issued = authority.issue_site(&site.parse().unwrap()).unwrap();
    Enrolment::new(
        site.parse().unwrap(),
        "kafka://one:9093",
        "https://one:7443",
        authority.certificate(),
        &fs::read_to_string(issued.certificate).unwrap(),
        &fs::read_to_string(issued.key).unwrap(),
    )
    .unwrap()
}

/// Waits until the newest report is in this state and says this.
async fn says(broker: &Broker, state: ServiceState, words: &str) -> ServiceStatus {
    eventually(LIMIT, || async {
        let mut newest: Option<ServiceStatus> = None;
        let visit = |record: broker::Record| {
            newest = schemas::decode(&record.value.unwrap())
                .ok()
                .or_else(|| newest.take());
        };
        broker.read_to_end(topic::SERVICE_STATUS, visit).await.unwrap();
        match newest {
            Some(status)
                if status.state == state
                    && [&status.detail, &status.last_error]
                        .into_iter()
                        .flatten()
                        .any(|said| said.contains(words)) =>
            {
                Ok(status)
            }
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_without_its_enrolment_waits_and_takes_up_what_it_is_given_without_a_restart() {
    let (dir, broker) = ready().await;
    let path = dir.path().join("north.enrolment");
    let config = format!(
        "[common]\nsite = 'north'\nenrolment = '{}'\n[common.broker]\nurl = '{}'\n",
        path.display(),
        testkit::sqlite(dir.path(), "broker.db")
    );
    let stop = Stop::new();
    let mut group = Group::new(Telemetry::detached(), stop.clone());
    group
        .start(&Entry::of::<Enrolled<Probe>>(), &Config::parse(&config).unwrap())
        .unwrap();
    group.ready(LIMIT).await.unwrap();
    says(
        &broker,
        ServiceState::Waiting,
        "not connected: give this site its enrolment",
    )
    .await;

    fs::write(&path, "{").unwrap();
    says(&broker, ServiceState::Waiting, "the enrolment is no JSON").await;
    let sound = enrolment(dir.path(), "north");
    enrolment(dir.path(), "south").replace(&path).unwrap();
    says(
        &broker,
        ServiceState::Waiting,
        "is the enrolment of south, and this site is north",
    )
    .await;

    sound.replace(&path).unwrap();
    let first = says(&broker, ServiceState::Running, "kafka://one:9093").await;
    assert!(dir.path().join("north.enrolment.probe/site.key").exists());
    let moved = sound.clone().at(Some("kafka://two:9093"), None).unwrap();
    moved.replace(&path).unwrap();
    let second = says(&broker, ServiceState::Running, "kafka://two:9093").await;
    assert!(second.started_at > first.started_at);

    // Neither what cannot be used nor what says the same ends what works.
    fs::write(&path, "{").unwrap();
    moved.replace(&path).unwrap();
    sound.replace(&path).unwrap();
    says(&broker, ServiceState::Running, "kafka://one:9093").await;
    fs::remove_file(&path).unwrap();
    says(&broker, ServiceState::Waiting, "give this site its enrolment").await;
    assert!(!dir.path().join("north.enrolment.probe").exists());
    assert!(group.members().iter().all(|member| member.restarts == 0));
    stop.cancel();
    group.wait().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_core_that_the_settings_name_needs_no_enrolment() {
    let (dir, broker) = ready().await;
    let key = dir.path().join("key");
    fs::write(&key, "PRIVATE KEY").unwrap();
    let config = format!(
        "[common]\nsite = 'north'\nenrolment = '/nowhere'\n[common.broker]\nurl = '{}'\n[probe]\ncore = 'named'\nkey = '{}'\n",
        testkit::sqlite(dir.path(), "broker.db"),
        key.display()
    );
    let stop = Stop::new();
    let mut group = Group::new(Telemetry::detached(), stop.clone());
    group
        .start(&Entry::of::<Enrolled<Probe>>(), &Config::parse(&config).unwrap())
        .unwrap();
    says(&broker, ServiceState::Running, "named").await;
    stop.cancel();
    group.wait().await.unwrap();
}
