use std::time::{SystemTime, UNIX_EPOCH};

use volume::{Settings, Volume, contract};

use crate::directory;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_keeps_the_contract() {
    let home = testkit::temp_dir();
    let volume = Volume::open(&directory(&home.path().join("volume")))
        .await
        .unwrap();
    contract::all(&volume, 1).await;
    let left = std::fs::read_dir(home.path().join("volume/staging"))
        .unwrap()
        .count();
    assert_eq!(left, 0, "staging is empty when nothing is on its way");
}

/// S3_URL is `s3://bucket`, S3_ENDPOINT where the server listens; key and id are `test`, as such servers have them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs S3_URL"]
#[expect(
    clippy::disallowed_methods,
    reason = "engines are given to tests by the environment"
)]
async fn a_bucket_keeps_the_contract() {
    let home = testkit::temp_dir();
    let url = std::env::var("S3_URL").expect("S3_URL must be set");
    let endpoint = std::env::var("S3_ENDPOINT").expect("S3_ENDPOINT must be set");
    let mut settings = Settings {
        url: format!("{url}/{}", testkit::unique("contract")),
        staging: Some(home.path().join("staging")),
        ..Settings::default()
    };
    settings.s3.endpoint = Some(endpoint);
    settings.s3.access_key_id = Some("test".into());
    settings.s3.secret_access_key = Some(units::Secret::new("test"));
    let volume = Volume::open(&settings).await.unwrap();
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    contract::all(&volume, seed).await;
    assert_eq!(std::fs::read_dir(home.path().join("staging")).unwrap().count(), 0);
}
