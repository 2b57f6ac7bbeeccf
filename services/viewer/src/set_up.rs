//! Connecting an edge to its core: whether an enrolment will do, step by step, and keeping it.
//!
//! A step is tried for real, from this site outwards, is told as it begins and as it ends, and every wait has a limit. The
//! first step that fails says why and what to do; those after it are not tried. Who drops a test ends it. Nothing at the core is changed by it: what is written there to see whether
//! it may be written is in a transaction that is given up.

mod broker;
mod certificate;
mod depot;
pub(crate) mod place;
mod reach;

use std::time::Duration;

use common::identity::{self, Enrolment};
use common::schemas::SiteId;
use common::telemetry;
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

/// The longest that the steps towards one target take, all together.
const LIMIT: Duration = Duration::from_secs(30);
/// More words than a test says: each step begins once and ends once.
pub(crate) const MOST_TOLD: usize = 32;

/// What is tried, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StepName {
    /// The document itself.
    File,
    /// The host's name has an address.
    Name,
    /// Somebody listens there.
    Port,
    /// TLS, verified both ways.
    Certificate,
    /// The other side lets this site do what it must.
    Rights,
    /// The topics are there (broker).
    Topics,
}

impl StepName {
    fn of(target: Target) -> &'static [Self] {
        const ALL: [StepName; 6] = [
            StepName::File,
            StepName::Name,
            StepName::Port,
            StepName::Certificate,
            StepName::Rights,
            StepName::Topics,
        ];
        match target {
            Target::Broker => &ALL,
            Target::Depot => &ALL[..5],
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Name => "name",
            Self::Port => "port",
            Self::Certificate => "certificate",
            Self::Rights => "rights",
            Self::Topics => "topics",
        }
    }
}

/// What of the core it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    /// The core's broker.
    Broker,
    /// The core's depot.
    Depot,
}

impl Target {
    fn as_str(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Depot => "depot",
        }
    }
}

/// What becomes of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It is being tried.
    Running,
    /// It is as it should be.
    Passed,
    /// It is not.
    Failed,
    /// It was not tried, or there is nothing to try.
    Skipped,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Step {
    pub(crate) step: StepName,
    pub(crate) target: Target,
    pub(crate) state: Outcome,
    /// What was found, or is being tried, in words.
    pub(crate) detail: String,
    /// What to do about a failure.
    pub(crate) remedy: Option<String>,
}

impl Step {
    /// The failure in one sentence.
    pub(crate) fn failure(&self) -> String {
        format!(
            "{} of the {}: {}",
            self.step.as_str(),
            self.target.as_str(),
            self.detail
        )
    }
}

/// Why a step failed, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failed {
    step: StepName,
    detail: String,
    remedy: String,
}

impl Failed {
    fn new(step: StepName, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            step,
            detail: detail.into(),
            remedy: remedy.into(),
        }
    }
}

/// Hears of each step as it begins and as it ends.
pub(crate) type Tell<'a> = &'a (dyn Fn(&Step) + Send + Sync);

/// The steps towards one target.
struct Ladder<'a> {
    target: Target,
    /// The step that was tried last.
    at: StepName,
    /// Those that have ended.
    steps: Vec<Step>,
    tell: Tell<'a>,
}

impl<'a> Ladder<'a> {
    fn new(target: Target, tell: Tell<'a>) -> Self {
        Self {
            target,
            at: StepName::File,
            steps: Vec::new(),
            tell,
        }
    }

    fn step(&self, step: StepName, state: Outcome, detail: String, remedy: Option<String>) -> Step {
        Step {
            step,
            target: self.target,
            state,
            detail,
            remedy,
        }
    }

    fn add(&mut self, step: StepName, state: Outcome, detail: impl Into<String>, remedy: Option<String>) {
        let step = self.step(step, state, detail.into(), remedy);
        (self.tell)(&step);
        self.steps.push(step);
    }

    /// A step begins.
    fn trying(&mut self, step: StepName, what: impl Into<String>) {
        self.at = step;
        (self.tell)(&self.step(step, Outcome::Running, what.into(), None));
    }

    fn passed(&mut self, step: StepName, detail: impl Into<String>) {
        self.add(step, Outcome::Passed, detail, None);
    }

    fn not_needed(&mut self, step: StepName, why: impl Into<String>) {
        self.add(step, Outcome::Skipped, why, None);
    }

    /// All steps, those that were not come to included.
    fn end(mut self, ended: Result<(), Failed>) -> Vec<Step> {
        if let Err(failed) = ended {
            let why = format!("not tried: {} failed", failed.step.as_str());
            self.add(failed.step, Outcome::Failed, failed.detail, Some(failed.remedy));
            for step in StepName::of(self.target) {
                if *step > failed.step {
                    self.add(*step, Outcome::Skipped, &why, None);
                }
            }
        }
        self.steps
    }
}

/// An enrolment as somebody gave it.
#[derive(Debug)]
pub(crate) struct Offer<'a> {
    /// The document's text.
    pub(crate) text: &'a str,
    /// Addresses instead of the document's own.
    pub(crate) broker_url: Option<&'a str>,
    pub(crate) depot_url: Option<&'a str>,
}

impl Offer<'_> {
    /// The enrolment of `site`, or why it is none.
    fn read(&self, site: &SiteId) -> Result<Enrolment, Failed> {
        let failed = |error: identity::Error| {
            Failed::new(
                StepName::File,
                telemetry::chain(&error),
                format!(
                    "ask headquarters for the enrolment of {site}: `fieldline site add {site} --out` writes it"
                ),
            )
        };
        let enrolment = Enrolment::parse(self.text).map_err(failed)?;
        if enrolment.site() != site {
            return Err(Failed::new(
                StepName::File,
                format!(
                    "this is the enrolment of {}, and this site is {site}",
                    enrolment.site()
                ),
                format!("ask headquarters for the enrolment of {site}"),
            ));
        }
        enrolment
            .at(self.broker_url, self.depot_url)
            .map_err(|error| Failed {
                remedy: "mend the address, or leave it empty for the one in the file".to_owned(),
                ..failed(error)
            })
    }
}

fn late(step: StepName) -> Failed {
    Failed::new(
        step,
        format!("there was no end of it within {} s", LIMIT.as_secs()),
        "try again; name fewer servers if some of them do not answer",
    )
}

/// Tries every step. The enrolment is there when it could be read, whatever else failed.
pub(crate) async fn test(site: &SiteId, offer: &Offer<'_>, tell: Tell<'_>) -> (Vec<Step>, Option<Enrolment>) {
    let mut to_broker = Ladder::new(Target::Broker, tell);
    let mut to_depot = Ladder::new(Target::Depot, tell);
    let enrolment = match offer.read(site) {
        Ok(enrolment) => enrolment,
        Err(failed) => {
            let mut steps = to_broker.end(Err(failed.clone()));
            steps.extend(to_depot.end(Err(failed)));
            return (steps, None);
        }
    };
    let broker = async {
        let climbed = timeout(LIMIT, broker::climb(&mut to_broker, &enrolment)).await;
        let climbed = climbed.unwrap_or_else(|_| Err(late(to_broker.at)));
        to_broker.end(climbed)
    };
    let depot = async {
        let climbed = timeout(LIMIT, depot::climb(&mut to_depot, &enrolment)).await;
        let climbed = climbed.unwrap_or_else(|_| Err(late(to_depot.at)));
        to_depot.end(climbed)
    };
    let (mut steps, more) = tokio::join!(Box::pin(broker), Box::pin(depot));
    steps.extend(more);
    (steps, Some(enrolment))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn what_comes_after_a_failure_is_named_and_not_tried() {
        let heard = Mutex::new(Vec::new());
        let tell = |step: &Step| heard.lock().unwrap().push((step.step.as_str(), step.state));
        let mut ladder = Ladder::new(Target::Broker, &tell);
        ladder.passed(StepName::File, "it is one");
        ladder.trying(StepName::Name, "looking it up");
        let steps = ladder.end(Err(Failed::new(StepName::Name, "no such host", "mend it")));
        let told: Vec<_> = steps
            .iter()
            .map(|step| (step.step.as_str(), step.state))
            .collect();
        assert_eq!(
            told,
            [
                ("file", Outcome::Passed),
                ("name", Outcome::Failed),
                ("port", Outcome::Skipped),
                ("certificate", Outcome::Skipped),
                ("rights", Outcome::Skipped),
                ("topics", Outcome::Skipped),
            ]
        );
        let mut heard = heard.into_inner().unwrap();
        assert_eq!(heard.remove(1), ("name", Outcome::Running));
        assert_eq!(heard, told, "each is told as it ends");
        assert_eq!(steps[1].failure(), "name of the broker: no such host");
        assert_eq!(steps[5].detail, "not tried: name failed");
    }
}
