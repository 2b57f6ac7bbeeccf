//! Topics that routes take up by a pattern.

use bundle::{Since, Wish, export, import};
use common::broker::TopicSpec;
use link::{Direction, Rename, Route};
use testkit::unique;

use crate::rig::{Rig, contents, one, record, what};

fn pattern(name: &str, direction: Direction, pattern: String, rename: Rename) -> Route {
    Route {
        name: name.into(),
        direction,
        topics: Vec::new(),
        pattern: Some(pattern),
        rename,
        class: None,
        live_first: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_a_pattern_takes_up_are_in_the_bundle_both_ways() {
    let mut rig = Rig::new().await;
    let (maps, meters) = (unique("maps"), unique("meters"));
    let down = pattern("maps", Direction::Down, format!("{maps}-.*"), Rename::Same);
    let up = pattern("meters", Direction::Up, format!("{meters}-.*"), Rename::Prefix);
    rig.core.routes.push(down.clone());
    rig.edge.routes.extend([down, up]);
    let (map, other) = (format!("{maps}-1"), unique("other"));
    let meter = format!("{meters}-1");
    let meter_at_core = format!("{}.{meter}", rig.edge.site);
    for (broker, topic) in [
        (&rig.core.broker, &map),
        (&rig.core.broker, &other),
        (&rig.edge.broker, &meter),
    ] {
        broker.create_topic(&TopicSpec::new(topic, 3)).await.unwrap();
        let records = (0..100).map(|number| record(topic, number)).collect();
        broker.producer().unwrap().send_all(records).await.unwrap();
    }
    rig.export_down().await;
    rig.import_down().await;
    let (sent, came) = (
        contents(&rig.core.broker, &map).await,
        contents(&rig.edge.broker, &map).await,
    );
    assert!(!sent.is_empty() && what(&sent) == what(&came));
    assert!(
        contents(&rig.edge.broker, &other).await.is_empty(),
        "no route names it"
    );

    // The core makes no topic for an edge by itself: it says which is missing.
    rig.export_up().await;
    let imported = rig.import_up().await;
    assert_eq!(imported.problems.len(), 1, "{imported:?}");
    assert!(imported.problems[0].contains(&meter_at_core), "{imported:?}");
    let spec = TopicSpec::new(&meter_at_core, 3);
    rig.core.broker.create_topic(&spec).await.unwrap();
    rig.import_up().await;
    let (sent, came) = (
        contents(&rig.edge.broker, &meter).await,
        contents(&rig.core.broker, &meter_at_core).await,
    );
    assert!(what(&sent) == what(&came));
    assert_eq!(rig.import_up().await.records, 0, "twice is once");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_takes_in_only_what_its_own_patterns_take_up() {
    let mut rig = Rig::new().await;
    let maps = unique("maps");
    let wide = pattern("maps", Direction::Down, format!("{maps}-.*"), Rename::Same);
    let narrow = pattern("maps", Direction::Down, format!("{maps}-a"), Rename::Same);
    rig.core.routes.push(wide);
    rig.edge.routes.push(narrow);
    for name in ["a", "b"] {
        let topic = format!("{maps}-{name}");
        rig.core
            .broker
            .create_topic(&TopicSpec::new(&topic, 1))
            .await
            .unwrap();
        let sent = rig.core.broker.producer().unwrap().send(record(&topic, 1)).await;
        sent.unwrap();
    }
    let exported = export(
        &rig.core,
        &rig.edge.site,
        &mut rig.stick(),
        &Since::Receipt,
        &|_| {},
    )
    .await;
    assert_eq!(exported.unwrap().records, 2);
    let imported = one(import(&rig.edge, &mut rig.stick(), Wish::default(), &|_| {}).await);
    assert_eq!(imported.records, 1);
    assert_eq!(
        imported.problems,
        [format!("{maps}-b is on no route of this site and is left out")]
    );
}
