//! Who carries the stick cannot change or forge what is on it, and what broke on the way is named.

use bundle::{Error, Since, Stick, Wish, export, import};
use common::identity::Authority;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use testkit::files;

use crate::records::copy;
use crate::rig::{Rig, contents, here, one, site};

const MIB: u64 = 1 << 20;

async fn nothing_came(rig: &Rig) {
    assert!(contents(&rig.edge.broker, &rig.news).await.is_empty());
    assert!(
        contents(&rig.edge.broker, &format!("{}.checkpoints", rig.edge.site))
            .await
            .is_empty()
    );
}

/// Where the signer's certificate is, as text, some bits of which mean nothing: those of the lines around it.
fn certificate(bytes: &[u8]) -> std::ops::Range<usize> {
    let place = |text: &[u8]| bytes.windows(text.len()).position(|found| found == text);
    let begin = place(b"-----BEGIN CERTIFICATE");
    begin
        .zip(place(b"\",\"signature\":"))
        .map_or(0..0, |(begin, end)| begin..end)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_is_noticed_in_every_file_and_the_file_is_named() {
    let seed = std::env::var("SEED").map_or_else(|_| rand::rng().random(), |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let rig = Rig::new().await;
    rig.send(50).await;
    rig.offer(1, MIB + 5).await;
    rig.export_down().await;
    // What the core itself reads on the stick is another matter: see the next test.
    let receipt = format!("{}.to.core", rig.edge.site);
    let all = files(&rig.root())
        .into_iter()
        .filter(|path| !path.display().to_string().contains(&receipt));
    let all: Vec<_> = all.collect();
    assert!(all.len() >= 6, "{all:?}");
    for (number, path) in all.into_iter().enumerate() {
        let fresh = rig.edge_again(&format!("fresh-{number}")).await;
        let mut bytes = std::fs::read(&path).unwrap();
        let whole = bytes.clone();
        let name = path.file_name().unwrap().to_str().unwrap();
        let frame = certificate(&bytes);
        let bit = loop {
            let bit = random.random_range(0..bytes.len() * 8);
            if !frame.contains(&(bit / 8)) {
                break bit;
            }
        };
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &bytes).unwrap();
        let looks = bundle::show(&rig.stick(), Some(&rig.edge.trust), true).unwrap();
        let said = format!("{:?} {:?}", looks[0].problem, looks[0].damaged);
        assert!(
            said.contains(path.to_str().unwrap()),
            "bit {bit} of {name}: {said}"
        );
        let imported = import(&fresh, &mut rig.stick(), Wish::default(), &|_| {}).await;
        match imported {
            Err(Error::Untrusted { path: named, .. } | Error::Document { path: named, .. }) => {
                assert_eq!(named, path);
                assert_eq!(name, "manifest.jsonl");
            }
            Err(error) => panic!("bit {bit} of {name}: {error}"),
            Ok(imported) => {
                let problems = &imported[0].problems;
                assert_eq!(problems.len(), 1, "bit {bit} of {name}: {problems:?}");
                assert!(
                    problems[0].contains(path.to_str().unwrap()),
                    "bit {bit} of {name}: {problems:?}"
                );
            }
        }
        std::fs::write(&path, &whole).unwrap();
    }
    rig.import_down().await;
    rig.export_up().await;
    rig.import_up().await;
    rig.all_is_carried().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_on_a_stick_is_made_anew_by_the_next_export() {
    let rig = Rig::new().await;
    rig.send(50).await;
    rig.offer(1, MIB + 5).await;
    rig.export_down().await;
    for path in files(&rig.root()) {
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        // A manifest that is no more what it was is told.
        export(
            &rig.core,
            &rig.edge.site,
            &mut rig.stick(),
            &Since::Receipt,
            &|_| {},
        )
        .await
        .unwrap();
        let look = bundle::show(&rig.stick(), Some(&rig.edge.trust), true)
            .unwrap()
            .remove(0);
        assert_eq!(
            (look.problem, look.damaged.len()),
            (None, 0),
            "after {}",
            path.display()
        );
    }
    let imported = rig.import_down().await;
    assert_eq!(
        (imported.records, imported.assets, imported.problems.len()),
        (50, 1, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_manifest_is_refused_before_anything_is_written() {
    let rig = Rig::new().await;
    rig.send(50).await;
    rig.export_down().await;
    let path = rig.down().join("manifest.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    let (words, signature) = text.split_once('\n').unwrap();

    // Other words under the same signature.
    std::fs::write(
        &path,
        format!(
            "{}\n{signature}",
            words.replace("\"whole\":true", "\"whole\":false")
        ),
    )
    .unwrap();
    let forged = import(&rig.edge, &mut rig.stick(), Wish::default(), &|_| {})
        .await
        .unwrap_err();
    assert!(matches!(forged, Error::Untrusted { .. }), "{forged}");
    nothing_came(&rig).await;

    // The same words, signed by an edge of the same authority.
    let issued = rig.certs.issue_site(&site("edge-9")).unwrap();
    let thief = common::identity::Signer::load(&issued.certificate, &issued.key).unwrap();
    let signed = thief.sign("fieldline bundle manifest", words.as_bytes()).unwrap();
    std::fs::write(
        &path,
        format!("{words}\n{}\n", serde_json::to_string(&signed).unwrap()),
    )
    .unwrap();
    let forged = import(&rig.edge, &mut rig.stick(), Wish::default(), &|_| {})
        .await
        .unwrap_err();
    assert!(forged.to_string().contains("edge-9 signed it"), "{forged}");
    nothing_came(&rig).await;

    // A core of another authority.
    let elsewhere = Authority::create(&rig.directory.path().join("elsewhere")).unwrap();
    let issued = elsewhere.issue_site(&site("core")).unwrap();
    let stranger = common::identity::Signer::load(&issued.certificate, &issued.key).unwrap();
    let signed = stranger
        .sign("fieldline bundle manifest", words.as_bytes())
        .unwrap();
    std::fs::write(
        &path,
        format!("{words}\n{}\n", serde_json::to_string(&signed).unwrap()),
    )
    .unwrap();
    let forged = import(&rig.edge, &mut rig.stick(), Wish::default(), &|_| {})
        .await
        .unwrap_err();
    assert!(matches!(forged, Error::Untrusted { .. }), "{forged}");
    nothing_came(&rig).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_for_another_site_is_not_taken_in_whatever_its_directory_is_called() {
    let rig = Rig::new().await;
    rig.send(50).await;
    rig.export_down().await;
    let url = testkit::sqlite(&rig.directory.path().join("two"), "broker.db");
    let two = here(&rig.directory, &rig.certs, "edge-2", "two", (&url, None), vec![]).await;
    let wrong = import(&two, &mut rig.stick(), Wish::default(), &|_| {})
        .await
        .unwrap_err();
    let said = wrong.to_string();
    assert!(
        said.contains("no bundle for edge-2") && said.contains(rig.edge.site.as_str()),
        "{said}"
    );
    let moved = rig.directory.path().join("moved");
    copy(&rig.down(), &moved.join("core.to.edge-2"));
    let wrong = import(&two, &mut Stick::at(&moved), Wish::default(), &|_| {})
        .await
        .unwrap_err();
    assert!(
        wrong
            .to_string()
            .contains(&format!("from core for {}", rig.edge.site)),
        "{wrong}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_segment_holds_up_its_partition_alone_and_can_be_given_up() {
    let rig = Rig::new().await;
    rig.send(90).await;
    rig.export_down().await;
    let manifest = bundle::show(&rig.stick(), None, false)
        .unwrap()
        .remove(0)
        .manifest
        .unwrap();
    let topic = manifest
        .topics
        .iter()
        .find(|topic| topic.source == rig.news)
        .unwrap();
    let segment = &topic.parts[1].segments[0];
    std::fs::remove_file(rig.down().join(format!("{}.segment", segment.hash))).unwrap();
    let imported = rig.import_down().await;
    assert_eq!(imported.records, 90 - segment.records);
    assert!(
        imported.problems[0].contains("missing"),
        "{:?}",
        imported.problems
    );
    // The next bundle goes on behind it, and says that there is a hole; given up, it is written down.
    rig.send(60).await;
    let receipt = rig.down().join("receipt.jsonl");
    std::fs::remove_file(receipt).unwrap();
    rig.export_down().await;
    let mended = rig.import_down().await;
    assert_eq!((mended.records, mended.problems.len()), (60 + segment.records, 0));
    drop(one(
        import(&rig.edge, &mut rig.stick(), Wish::default(), &|_| {}).await
    ));
}
