//! kill -9 of every process and every broker while the exchange is under way.

use std::time::Duration;

use anyhow::Result;
use e2e::catalogue::Catalogue;
use e2e::faults;
use e2e::installation::{Installation, Plan, Shape};
use e2e::scenario;

const LIMIT: Duration = Duration::from_secs(300);

/// Kills while assets are announced, requested and mirrored, then lets it come to rest: nothing may be lost, nothing
/// may be there twice, and no file may ever be visible that is not whole.
async fn survives(shape: Shape, longest_pause: Duration) -> Result<()> {
    let seed = faults::seed();
    println!("FIELDLINE_SEED={seed}");
    let directory = e2e::kept_on_failure()?;
    let catalogue = Catalogue::made(directory.path(), 60, 48, 400).await?;
    let plan = Plan {
        catalogue: &catalogue,
        batch: 4,
        interval: "400ms",
        edges: 2,
    };
    let mut installation = Installation::start(shape, directory.path(), &plan).await?;
    let rounds = testkit::rounds(1);
    for round in 0..rounds {
        faults::kill_everything(
            &mut installation,
            seed.wrapping_add(round as u64),
            1,
            longest_pause,
        )
        .await?;
        installation.answers(LIMIT).await?;
        for volume in installation
            .edge_volumes
            .iter()
            .chain([&installation.core_volume])
        {
            scenario::objects(volume)?;
        }
        if round == 0 {
            scenario::all_is_known(&installation, &catalogue, LIMIT).await?;
        }
    }
    scenario::all_is_known(&installation, &catalogue, LIMIT).await?;
    let asked = scenario::request(&installation).await?;
    faults::kill_everything(&mut installation, seed ^ 1, 1, longest_pause).await?;
    scenario::answered(&installation, &asked, LIMIT).await?;
    for edge in &installation.edges {
        edge.ask_mirror().await?;
    }
    faults::kill_everything(&mut installation, seed ^ 2, 1, longest_pause).await?;
    scenario::mirror(&installation, &asked, LIMIT).await?;
    scenario::all_is_right(&installation, &catalogue, &asked).await?;
    installation.nothing_has_ended()?;
    installation.keeps(directory);
    installation.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_by_a_crash_of_the_one_process() -> Result<()> {
    survives(Shape::OneProcess, Duration::from_secs(2)).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn nothing_is_lost_by_a_crash_of_any_service_or_broker() -> Result<()> {
    survives(Shape::EachService, Duration::from_secs(1)).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn nothing_is_lost_by_a_crash_of_a_small_edge_or_the_cores_services_or_broker() -> Result<()> {
    survives(Shape::SmallEdges, Duration::from_secs(1)).await
}
