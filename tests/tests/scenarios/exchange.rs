//! The asset exchange in the three shapes.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::catalogue::Catalogue;
use e2e::installation::{Installation, Plan, Shape, engine};
use e2e::scenario;

const LIMIT: Duration = Duration::from_secs(240);

async fn exchange(shape: Shape) -> Result<Installation> {
    let directory = e2e::kept_on_failure()?;
    let catalogue = Catalogue::serve(directory.path()).await?;
    let plan = Plan {
        catalogue: &catalogue,
        batch: 40,
        interval: "200ms",
        edges: 2,
    };
    let mut installation = Installation::start(shape, directory.path(), &plan).await?;
    scenario::all_is_known(&installation, &catalogue, LIMIT).await?;
    let asked = scenario::request(&installation).await?;
    scenario::answered(&installation, &asked, LIMIT).await?;
    scenario::mirror(&installation, &asked, LIMIT).await?;
    scenario::all_is_right(&installation, &catalogue, &asked).await?;
    installation.nothing_has_ended()?;
    installation.keeps(directory);
    Ok(installation)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asset_travels_from_the_catalogue_to_the_edge_that_asked_in_one_process() -> Result<()> {
    exchange(Shape::OneProcess).await?.stop().await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn an_asset_travels_with_each_service_its_own_process_on_kafka_and_cassandra() -> Result<()> {
    let installation = exchange(Shape::EachService).await?;
    read_with_fastavro("KAFKA_URL")?;
    read_with_fastavro("KAFKA_EDGE_URL")?;
    look_with_kcat_and_cqlsh(&installation)?;
    installation.stop().await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL"]
async fn an_asset_travels_from_a_core_on_kafka_and_cassandra_to_edges_on_sqlite() -> Result<()> {
    exchange(Shape::SmallEdges).await?.stop().await
}

/// Every record of every topic, by a program that knows nothing but the files in schemas/.
fn read_with_fastavro(broker: &str) -> Result<()> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let bootstrap = engine(broker)?.trim_start_matches("kafka://").to_owned();
    let output = Command::new("tests/python/run")
        .arg("read_topics.py")
        .arg(bootstrap)
        .current_dir(root)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(text.contains("ASSET_BROADCAST"), "{text}");
    Ok(())
}

/// What README says that a data engineer can do with the tools they know.
fn look_with_kcat_and_cqlsh(installation: &Installation) -> Result<()> {
    let print = |mut command: Command| -> Result<String> {
        let output = command
            .output()
            .with_context(|| format!("cannot run {command:?}"))?;
        ensure!(
            output.status.success(),
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let bootstrap = engine("KAFKA_URL")?.trim_start_matches("kafka://").to_owned();
    let mut kcat = Command::new("timeout");
    kcat.args([
        "30",
        "kcat",
        "-b",
        &bootstrap,
        "-C",
        "-t",
        "ASSET_BROADCAST",
        "-o",
        "beginning",
        "-e",
    ]);
    kcat.args(["-q", "-f", "%k %T %S bytes\n"]);
    let lines = print(kcat)?;
    let keys = lines
        .lines()
        .filter(|line| line.split(' ').next().is_some_and(|key| key.len() == 32))
        .count();
    ensure!(keys >= 20, "kcat shows {keys} broadcasts:\n{lines}");

    let keyspace = installation.core_table.rsplit('/').next().unwrap_or_default();
    let query = format!("SELECT asset_id, title, size FROM {keyspace}.published LIMIT 5");
    let mut cqlsh = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/engines/engines"));
    cqlsh
        .env("ENGINES_DIR", engine("ENGINES_DIR")?)
        .args(["cqlsh", "-e", &query]);
    let rows = print(cqlsh)?;
    ensure!(rows.contains("(5 rows)"), "cqlsh shows:\n{rows}");
    Ok(())
}
