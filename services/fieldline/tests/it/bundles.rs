//! `bundle export`, `import` and `show`.

use std::process::Command;

use testkit::files;

use crate::rig::{Rig, Said, fieldline};

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_made_shown_and_taken_in_and_twice_is_once() {
    let rig = Rig::new();
    rig.readings(30, 20).await;
    let asset = rig.asset(1, 200_000).await;

    rig.do_it(&rig.export("edge-1")).prints("for core: 30 records");
    rig.show().prints("edge-1");
    rig.do_it(&rig.import("core"))
        .prints("from edge-1")
        .prints("30 records");
    rig.do_it(&rig.import("core"))
        .prints("0 records (30 more were here)");
    rig.do_it(&rig.export("core")).prints("1 assets");
    let mut json = rig.import("edge-1");
    json.push("--json".to_owned());
    let imported = rig.do_it(&json).json();
    assert_eq!(imported[0]["assets"], 1, "{imported}");
    rig.do_it(json.split_last().unwrap().1)
        .prints("0 assets (1 more were here");
    assert_eq!(
        rig.volume("edge-1").await.stat(&asset.hash).await.unwrap(),
        Some(200_000)
    );
    assert_eq!(
        rig.contents("edge-1", "readings").await,
        rig.contents("core", "edge-1.readings").await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_bundle_is_said_with_its_name() {
    let rig = Rig::new();
    rig.readings(30, 20).await;
    let mut nobody = rig.export("core");
    nobody.truncate(6);
    rig.do_it(&nobody)
        .fails(1, "for which edge is it?")
        .fails(1, "--site");
    nobody.extend(["--site".to_owned(), "edge-9".to_owned()]);
    rig.do_it(&nobody)
        .fails(1, "edge-9 is not enrolled here: run `fieldline site add edge-9`");
    rig.do_it(&rig.import("core"))
        .fails(1, "holds no bundle for core");
    let mut receipt = rig.export("edge-1");
    receipt.extend(["--since".to_owned(), rig.text("no-receipt")]);
    rig.do_it(&receipt).fails(1, "no-receipt: there is no such file");

    rig.do_it(&rig.export("edge-1")).prints("30 records");
    let segment = files(&rig.path("stick"))
        .into_iter()
        .find(|path| path.extension().is_some_and(|ending| ending == "segment"))
        .unwrap();
    let whole = std::fs::read(&segment).unwrap();
    let mut damaged = whole.clone();
    damaged[10] ^= 1;
    std::fs::write(&segment, damaged).unwrap();
    let name = segment.file_name().unwrap().to_str().unwrap();
    let shown = rig.show();
    assert_eq!(shown.code, Some(1), "{shown:?}");
    assert!(format!("{}{}", shown.out, shown.err).contains(name), "{shown:?}");
    let taken = rig.do_it(&rig.import("core"));
    assert_eq!(taken.code, Some(1), "{taken:?}");
    assert!(taken.out.contains("it is damaged"), "{taken:?}");
    std::fs::write(&segment, whole).unwrap();
    rig.do_it(&rig.import("core")).prints("30 records");

    let manifest = rig.path("stick/edge-1.to.core/manifest.jsonl");
    let signed = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, signed.replacen("edge-1", "edge-2", 1)).unwrap();
    rig.do_it(&rig.import("core")).fails(1, "manifest.jsonl");
    fieldline(&["bundle", "show", &rig.text("stick"), "--ca", &rig.text("no.crt")])
        .fails(1, "cannot read --ca");
}

/// The command where no file may be larger than so many KiB, as on a disk that is full from there on.
fn limited(words: &[String], kib: u64) -> Said {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let program = env!("CARGO_BIN_EXE_fieldline");
    let script = format!(
        "trap '' XFSZ; ulimit -f {kib}; exec '{program}' {}",
        quoted.join(" ")
    );
    Command::new("bash")
        .arg("-c")
        .arg(script)
        .output()
        .unwrap()
        .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stick_is_named_and_holds_nothing_that_only_looks_whole() {
    let rig = Rig::new();
    let (small, large) = (rig.asset(1, 300_000).await, rig.asset(2, 9_000_000).await);
    let said = limited(&rig.export("core"), 4096);
    said.prints("is full")
        .prints(&rig.text("stick"))
        .prints("1 assets (8.58 MiB) did not fit");
    rig.show().prints("");
    let left = files(&rig.path("stick"));
    let names: Vec<String> = left.iter().map(|path| path.display().to_string()).collect();
    assert!(!names.iter().any(|name| name.ends_with(".partial")), "{names:?}");
    assert!(
        !names.iter().any(|name| name.contains(large.hash.as_str())),
        "{names:?}"
    );
    rig.do_it(&rig.import("edge-1"))
        .prints("1 assets")
        .prints("it did not hold all that core had");
    let volume = rig.volume("edge-1").await;
    assert!(volume.stat(&small.hash).await.unwrap().is_some());
    assert!(volume.stat(&large.hash).await.unwrap().is_none());

    // Not even room for the manifest.
    let said = limited(&rig.export("core"), 0);
    assert_eq!(said.code, Some(1), "{said:?}");
    rig.show().prints("");
    rig.do_it(&rig.export("core")).prints("2 assets");
    rig.do_it(&rig.import("edge-1"))
        .prints("1 assets (1 more were here");
}
