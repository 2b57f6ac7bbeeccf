//! `link offsets` and `link verify` of sites that are at rest.

use crate::rig::{Rig, fieldline};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_bundle_carried_is_verified_and_groups_can_move() {
    let rig = Rig::new();
    let config = rig.text("edge.toml");
    rig.readings(50, 20).await;
    rig.do_it(&rig.export("edge-1")).prints("50 records");
    rig.do_it(&rig.import("core")).prints("50 records");
    commit(&rig).await;

    let verify = fieldline(&["link", "verify", "--config", &config]);
    verify.prints("readings/0").prints("same");
    let topic = ["link", "verify", "--config", &config, "--topic"];
    let words = |topic_name: &'static str, more: &[&'static str]| {
        let mut words = topic.to_vec();
        words.push(topic_name);
        words.extend(more);
        fieldline(&words)
    };
    words("edge-1.readings", &["--json"]).prints("\"verdict\"");
    words("nobody-carries-it", &[]).fails(2, "no route carries nobody-carries-it");
    words("readings", &["--from", "yesterday"]).fails(2, "`yesterday` is no offset and no time");
    fieldline(&["link", "verify", "--config", &config, "--from", "3"]).fails(2, "an offset needs --topic");

    let offsets = fieldline(&["link", "offsets", "--config", &config]);
    offsets
        .prints("analysts")
        .prints("edge-1.readings/0")
        .prints("nothing is committed");
    let apply = [
        "link", "offsets", "--config", &config, "--group", "analysts", "--apply",
    ];
    fieldline(&apply).prints("1 positions are committed on the other side");
    let back = ["link", "offsets", "--config", &config, "--from", "core", "--json"];
    let moved = fieldline(&back).json();
    assert_eq!(moved["positions"][0]["committed"], 20, "{moved}");

    let (mut settings, missing) = (std::fs::read_to_string(&config).unwrap(), rig.text("none.toml"));
    fieldline(&["link", "verify", "--config", &missing]).fails(2, &missing);
    fieldline(&["link", "offsets", "--config", &missing]).fails(1, &missing);
    settings.push_str("[link.budgett]\n");
    std::fs::write(&missing, settings).unwrap();
    fieldline(&["link", "offsets", "--config", &missing]).fails(1, "budgett");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_its_enrolment_connects_needs_no_settings_of_the_core() {
    let rig = Rig::new();
    let (core, certs, out) = (rig.text("core.toml"), rig.text("certs"), rig.text("out"));
    std::fs::create_dir(&out).unwrap();
    let broker = format!("sqlite://{}", rig.text("core/broker.db"));
    fieldline(&[
        "init",
        "--core",
        &core,
        "--enrol",
        "edge-1",
        "--certs",
        &certs,
        "--out",
        &out,
        "--broker",
        &broker,
        "--depot",
        "https://127.0.0.1:1",
    ])
    .prints("give edge-1 its enrolment");
    let config = rig.text("edge.toml");
    let named = std::fs::read_to_string(&config).unwrap();
    let (before, rest) = named.split_once("[link.core]\n").unwrap();
    let (_core, routes) = rest.split_once('\n').unwrap();
    let (routes, _mirror) = routes.split_once("[mirror]\n").unwrap();
    let enrolled = before.replace(
        "[common]\n",
        &format!("[common]\nenrolment = \"{out}/edge-1.enrolment\"\n"),
    );
    std::fs::write(&config, enrolled + routes).unwrap();

    rig.readings(50, 20).await;
    rig.do_it(&rig.export("edge-1")).prints("50 records");
    rig.do_it(&rig.import("core")).prints("50 records");
    let verify = ["link", "verify", "--config", &config];
    fieldline(&verify).prints("readings/0").prints("same");
    std::fs::remove_file(format!("{out}/edge-1.enrolment")).unwrap();
    fieldline(&verify).fails(2, "there is no enrolment at");
}

/// A group that has read 20 of the edge's readings.
async fn commit(rig: &Rig) {
    let broker = rig.broker("edge-1").await;
    broker
        .commit_for("analysts", "readings", &[(0, 20)])
        .await
        .unwrap();
    rig.let_go("edge-1", broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_broker_that_is_in_use_is_said_to_be() {
    let rig = Rig::new();
    let held = rig.broker("edge-1").await;
    let config = rig.text("edge.toml");
    fieldline(&["link", "offsets", "--config", &config])
        .fails(1, "is in use by")
        .fails(1, "hint: an embedded broker has one owner; stop the site");
    fieldline(&["link", "verify", "--config", &config]).fails(2, "could not tell");
    rig.do_it(&rig.export("edge-1"))
        .fails(1, "the site is running")
        .fails(1, "hint: stop it while a bundle is made");
    drop(held);
}
