//! By which ways topics came to a site, told to all links that read them there: so that no ring of sites carries a record
//! round for ever.
//!
//! Whoever brings a topic down writes to `link-paths`, at its own broker, through which topics it came: those that its
//! source's `link-paths` tell of, and the source. Topics go by the ids of their incarnations, of which there is one in
//! all clusters. A route whose way leads through its own destination would close a ring: it is not carried. The topic is
//! read along with what is carried, so word of another way comes by itself, and costs nothing while there is none.
//! What goes up has its way in its name; a ring has to come down somewhere, so no more has to be told.
//!
//! Links that begin at one moment may all see the ring. Who has told of a way already gives it up only if its topic's id
//! is the least of the ring's, and else tells of the way from itself on; so one gives it up, and does not take it up again
//! before the others tell of another way.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use common::broker::{Broker, Outgoing, Record, TopicSpec};
use common::schemas::{self, LinkPath, PathHop, SiteId, topic};
use common::telemetry;
use tokio::sync::broadcast;

use crate::error::Result;
use crate::routes::{Direction, Lane, Route};

/// The topic.
pub(crate) const TOPIC: &str = topic::LINK_PATHS;

/// What stands in every status where a Kafka's rules hide the topic.
pub(crate) const UNSEEN: &str = "link-paths of the source cannot be read: rings of sites through it are not noticed here. \
                                 Give this edge the rights Describe and Read on that topic";

/// What that remark is about: each direction has a source of its own.
pub(crate) fn about(direction: Direction) -> &'static str {
    match direction {
        Direction::Up => "rings up",
        Direction::Down => "rings down",
    }
}

/// A way that is longer than this is taken for a ring.
const MOST: usize = 32;

/// What the carriers of a direction know of their source together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Paths(Arc<Shared>);

/// So many topics of which there is news are told one by one; who has missed more looks at all.
const TOLD: usize = 64;

#[derive(Debug)]
struct Shared {
    /// The topics of which there is news; no name where it cannot be read.
    news: broadcast::Sender<String>,
    /// What was read, with the topic's incarnation and its end then.
    read: Mutex<Option<(String, i64, Ways)>>,
    /// Whether the source does not let this site see the topic.
    hidden: AtomicBool,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            news: broadcast::Sender::new(TOLD),
            read: Mutex::default(),
            hidden: AtomicBool::default(),
        }
    }
}

/// News of ways, for one carrier.
#[derive(Debug)]
pub(crate) struct News(broadcast::Receiver<String>);

impl News {
    /// Waits for news of a way by which a topic came that these lanes carry. Of others a broker may have much.
    pub(crate) async fn concerns(&mut self, lanes: &[Lane]) {
        loop {
            match self.0.recv().await {
                Ok(topic) if topic.is_empty() || lanes.iter().any(|lane| lane.source == topic) => return,
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => return,
                Err(broadcast::error::RecvError::Closed) => return std::future::pending().await,
            }
        }
    }
}

impl Paths {
    /// Says that a record of the topic came, with this key.
    pub(crate) fn ring(&self, key: &[u8]) {
        let key = String::from_utf8_lossy(key);
        let topic = key.split_once('/').map_or("", |(_, topic)| topic);
        // Nobody may be listening: what begins later reads it.
        let _heard = self.0.news.send(topic.to_owned());
    }

    pub(crate) fn hear(&self) -> News {
        News(self.0.news.subscribe())
    }

    /// The ways as they were read before, if that was to the same end.
    pub(crate) fn known(&self, id: &str, end: i64) -> Option<Ways> {
        let read = self.0.read.lock().unwrap_or_else(PoisonError::into_inner);
        let same = read.as_ref().filter(|(of, to, _)| of == id && *to == end);
        same.map(|(.., ways)| ways.clone())
    }

    pub(crate) fn keep(&self, id: &str, end: i64, ways: &Ways) {
        let mut read = self.0.read.lock().unwrap_or_else(PoisonError::into_inner);
        *read = Some((id.to_owned(), end, ways.clone()));
    }

    /// Whether the source does not let this site see the topic: there is nothing to be known, then.
    pub(crate) fn hidden(&self) -> bool {
        self.0.hidden.load(Ordering::Relaxed)
    }

    pub(crate) fn hide(&self) {
        tracing::info!("{UNSEEN}");
        self.0.hidden.store(true, Ordering::Relaxed);
    }
}

/// By which ways the topics of a site came there, by site and topic: the newest of each key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ways(BTreeMap<String, LinkPath>);

impl Ways {
    /// Takes the next record of the topic. What cannot be read is of a newer version, and tells this one nothing.
    pub(crate) fn take(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) {
        let key = String::from_utf8_lossy(key.unwrap_or_default()).into_owned();
        match value.and_then(|value| schemas::decode(value).ok()) {
            Some(path) => drop(self.0.insert(key, path)),
            None => drop(self.0.remove(&key)),
        }
    }

    /// The topics that one came through; none when it began here.
    fn of(&self, topic: &str) -> Vec<PathHop> {
        let mut hops: Vec<PathHop> = Vec::new();
        for hop in self
            .0
            .values()
            .filter(|path| path.topic == topic)
            .flat_map(|path| &path.hops)
        {
            if hops.iter().all(|known| known.id != hop.id) {
                hops.push(hop.clone());
            }
        }
        hops
    }

    /// The way of a lane's destination, whose topics are these incarnations; or why it must not be carried. `told` is
    /// whether it was told already.
    pub(crate) fn lead(
        &self,
        site: &SiteId,
        lane: &Lane,
        (from, to): (&str, &str),
        told: bool,
    ) -> std::result::Result<Vec<PathHop>, String> {
        let mut hops = self.of(&lane.source);
        hops.push(PathHop {
            site: site.to_string(),
            topic: lane.source.clone(),
            id: from.to_owned(),
        });
        let at = hops.iter().rposition(|hop| hop.id == to && !to.is_empty());
        if let Some(at) = at {
            let ring = &hops[at..];
            if !told || ring.iter().all(|hop| to <= hop.id.as_str()) {
                let sites: Vec<&str> = [site.as_str()]
                    .into_iter()
                    .chain(ring.iter().map(|hop| hop.site.as_str()))
                    .collect();
                return Err(format!(
                    "{} would go round for ever, {}: take it out of the routes of one of these sites",
                    lane.destination,
                    sites.join(" → ")
                ));
            }
            hops.drain(..=at);
        }
        if hops.len() > MOST {
            return Err(format!(
                "{} has come through more than {MOST} topics: it goes round, or the chain is too long",
                lane.destination
            ));
        }
        Ok(hops)
    }

    /// Whether a way is known of this topic.
    pub(crate) fn lead_to(&self, topic: &str) -> bool {
        self.0.values().any(|path| path.topic == topic)
    }

    /// Whether this site's link has told of the way of a topic.
    pub(crate) fn told(&self, site: &SiteId, topic: &str) -> bool {
        self.0.contains_key(&key(site, topic))
    }
}

fn key(site: &SiteId, topic: &str) -> String {
    format!("{site}/{topic}")
}

/// Makes the topic at this site's own broker where it is missing. Without it nothing can be told, which keeps nothing
/// from being carried.
pub(crate) async fn make(own: &Broker) {
    let made = async {
        if own.describe(TOPIC).await?.is_none() {
            own.create_topic(&TopicSpec::new(TOPIC, 1).compacted()).await?;
        }
        Ok::<_, common::broker::Error>(())
    };
    if let Err(error) = made.await {
        tracing::warn!(error = %telemetry::chain(&error), "{TOPIC} cannot be made: rings of sites through this one are not noticed");
    }
}

/// Reads the ways by which a broker's topics came there, to the end, and where that is; none when it has no such topic.
pub(crate) async fn load(broker: &Broker) -> Result<Option<(Ways, i64)>> {
    if broker.describe(TOPIC).await?.is_none() {
        return Ok(None);
    }
    let mut ways = Ways::default();
    let mut end = broker.watermarks(TOPIC, 0).await?.high;
    let take = |record: Record| {
        end = end.max(record.offset + 1);
        ways.take(record.key.as_deref(), record.value.as_deref());
    };
    broker.read_to_end(TOPIC, take).await?;
    Ok(Some((ways, end)))
}

/// Tells at this site's own broker by which ways topics come, or that they come no more, where that is not known there.
pub(crate) async fn tell(
    own: &Broker,
    site: &SiteId,
    known: &Ways,
    news: HashMap<String, Option<Vec<PathHop>>>,
) -> Result<()> {
    let mut records = Vec::new();
    for (topic, hops) in news {
        let key = key(site, &topic);
        let path = hops.map(|hops| LinkPath { topic, hops });
        if known.0.get(&key) == path.as_ref() {
            continue;
        }
        let value = path.as_ref().and_then(|path| schemas::encode(path).ok());
        records.push(Outgoing {
            value: value.map(Into::into),
            ..Outgoing::new(TOPIC, key, Vec::new())
        });
    }
    if !records.is_empty() {
        own.producer()?.send_all(records).await?;
    }
    Ok(())
}

/// Takes back what this site's link has told of topics that none of its routes brings any more.
pub(crate) async fn prune(own: &Broker, site: &SiteId, lanes: &[Lane], routes: &[Route]) -> Result<()> {
    let Some((known, _)) = load(own).await? else {
        return Ok(());
    };
    let patterns = routes
        .iter()
        .filter(|route| route.direction == Direction::Down)
        .filter_map(|route| crate::found::compile(route.pattern.as_deref()?).ok());
    let patterns: Vec<_> = patterns.collect();
    let brought = |topic: &str| {
        let plain = topic.strip_suffix(".backlog").unwrap_or(topic);
        lanes.iter().any(|lane| {
            lane.direction == Direction::Down && (lane.destination == topic || lane.destination == plain)
        }) || patterns
            .iter()
            .any(|pattern| pattern.is_match(topic) || pattern.is_match(plain))
    };
    let own_ones = known.0.iter().filter(|(of, path)| **of == key(site, &path.topic));
    let gone = own_ones.filter(|(_, path)| !brought(&path.topic));
    let gone = gone.map(|(_, path)| (path.topic.clone(), None)).collect();
    tell(own, site, &known, gone).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::Rename;

    fn lane(topic: &str) -> Lane {
        let route = Route {
            name: "r".into(),
            direction: Direction::Down,
            topics: vec![topic.into()],
            pattern: None,
            rename: Rename::Same,
            class: None,
            live_first: false,
        };
        route.lane(&site("any"), topic)
    }

    fn site(name: &str) -> SiteId {
        name.parse().unwrap()
    }

    /// What a site's broker says after its link has brought a topic down, or has not.
    fn told(by: &str, topic: &str, hops: Option<Vec<PathHop>>) -> Ways {
        let mut ways = Ways::default();
        if let Some(hops) = hops {
            let path = LinkPath {
                topic: topic.into(),
                hops,
            };
            ways.take(
                Some(key(&site(by), topic).as_bytes()),
                Some(&schemas::encode(&path).unwrap()),
            );
        }
        ways
    }

    /// Three sites in a ring, each with the next one for a core; which of them carry the topic after so many looks, of
    /// which each is at the site before it in this order.
    fn round(order: &[usize]) -> [bool; 3] {
        let names = ["a", "b", "c"];
        let ids = ["id-2", "id-1", "id-3"];
        let mut ways = [Ways::default(), Ways::default(), Ways::default()];
        for here in order.iter().copied() {
            let core = (here + 1) % 3;
            let was = ways[here].told(&site(names[here]), "t");
            let led = ways[core].lead(&site(names[here]), &lane("t"), (ids[core], ids[here]), was);
            ways[here] = told(names[here], "t", led.ok());
        }
        [0, 1, 2].map(|at| ways[at].told(&site(names[at]), "t"))
    }

    #[tokio::test]
    async fn news_of_a_topic_concerns_who_carries_it() {
        let paths = Paths::default();
        let mut news = paths.hear();
        let brief = std::time::Duration::from_millis(50);
        let lanes = [lane("t")];
        paths.ring(b"other/u");
        assert!(tokio::time::timeout(brief, news.concerns(&lanes)).await.is_err());
        for key in [&b"other/t"[..], b"of a newer version"] {
            paths.ring(key);
            news.concerns(&lanes).await;
        }
        (0..=TOLD).for_each(|_| paths.ring(b"other/u"));
        news.concerns(&lanes).await;
    }

    #[test]
    fn last_link_of_a_ring_is_refused_and_its_way_is_named() {
        assert_eq!(round(&[0, 1, 0, 2, 0, 1, 2]), [true, true, false]);
        assert_eq!(round(&[2, 1, 0, 1, 2, 0]), [false, true, true]);
        let b = told("b", "t", Some(vec![hop("b", "id-c")]));
        let a = b.lead(&site("a"), &lane("t"), ("id-b", "id-a"), false).unwrap();
        let ring = told("a", "t", Some(a)).lead(&site("c"), &lane("t"), ("id-a", "id-c"), false);
        assert!(
            ring.unwrap_err()
                .starts_with("t would go round for ever, c → b → a → c:")
        );
    }

    #[test]
    fn of_links_that_begin_at_one_moment_one_gives_way() {
        // c reads before a knows of b's way; then all hear of it, in whatever order.
        for rest in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [0, 2, 1], [1, 2, 0], [2, 0, 1]] {
            let order = [&[0, 1, 2][..], &rest.repeat(4)].concat();
            let carry = round(&order);
            assert_eq!(carry.iter().filter(|carry| **carry).count(), 2, "{rest:?}");
        }
    }

    #[test]
    fn chains_and_topics_of_other_incarnations_are_carried() {
        let region = told("region", "t", Some(vec![hop("region", "id-core")]));
        let led = region.lead(&site("edge"), &lane("t"), ("id-region", "id-edge"), false);
        assert_eq!(led.unwrap(), [hop("region", "id-core"), hop("edge", "id-region")]);
        // An id that nobody could learn is nobody's.
        let silent = told("region", "t", Some(vec![hop("region", "")]));
        assert!(silent.lead(&site("edge"), &lane("t"), ("", ""), false).is_ok());
        assert!(
            region
                .lead(&site("edge"), &lane("other"), ("x", "id-core"), false)
                .is_ok()
        );
    }

    #[test]
    fn way_has_an_end() {
        let long = (0..MOST).map(|n| hop("s", &n.to_string())).collect();
        let ways = told("s", "t", Some(long));
        assert!(ways.lead(&site("edge"), &lane("t"), ("x", "y"), true).is_err());
    }

    fn hop(site: &str, id: &str) -> PathHop {
        PathHop {
            site: site.into(),
            topic: "t".into(),
            id: id.into(),
        }
    }
}
