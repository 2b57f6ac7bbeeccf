//! Help, and what is said of words that make no sense.

use crate::rig::{command, fieldline};

#[test]
fn help_says_what_each_command_does_and_is_no_error() {
    let commands: &[&[&str]] = &[
        &[],
        &["link"],
        &["link", "status"],
        &["link", "pause"],
        &["link", "resume"],
        &["link", "cap"],
        &["link", "windows"],
        &["link", "budget"],
        &["link", "metered"],
        &["link", "allow"],
        &["link", "offsets"],
        &["link", "verify"],
        &["site"],
        &["site", "rules"],
        &["bundle"],
        &["bundle", "export"],
        &["bundle", "import"],
        &["bundle", "show"],
        &["mirror"],
        &["mirror", "estimate"],
        &["mirror", "start"],
        &["mirror", "stop"],
        &["mirror", "status"],
        &["mirror", "queue"],
        &["mirror", "order"],
        &["mirror", "pin"],
        &["mirror", "unpin"],
        &["mirror", "evict"],
    ];
    for command in commands {
        let said = fieldline(&[command, &["--help"][..]].concat());
        let wanted = ["fieldline", &command.join(" ")].join(" ");
        said.prints(wanted.trim_end()).prints("Usage:");
        assert!(said.err.is_empty(), "{said:?}");
    }
}

#[test]
fn words_that_make_no_sense_end_with_64_and_are_named() {
    for (words, named) in [
        (&["lnik"][..], "lnik"),
        (&["link", "cap"], "<RATE>"),
        (
            &["link", "metered", "perhaps"],
            "possible values: on, off, configured",
        ),
        (&["link", "budget"], "--day"),
        (&["link", "windows"], "<WINDOWS>"),
        (&["link", "offsets"], "--config"),
        (&["link", "offsets", "--config", "x", "--apply"], "--group"),
        (&["link", "offsets", "--config", "x", "--from", "moon"], "moon"),
        (&["link", "verify"], "--config"),
        (&["mirror", "order", "no-asset", "first"], "no-asset"),
        (&["mirror", "queue", "--limit", "many"], "many"),
        (&["bundle", "export", "--config", "x"], "--to"),
        (
            &[
                "bundle",
                "export",
                "--config",
                "x",
                "--to",
                "y",
                "--max-size",
                "big",
            ],
            "--max-size",
        ),
        (
            &[
                "bundle",
                "export",
                "--config",
                "x",
                "--to",
                "y",
                "--site",
                "Not A Site",
            ],
            "--site",
        ),
        (&["bundle", "import", "--config", "x"], "--from"),
        (&["bundle", "show"], "<DIRECTORY>"),
    ] {
        fieldline(words).fails(64, named);
    }
}

#[test]
fn nobody_reading_on_is_no_failure() {
    let directory = testkit::temp_dir();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut certs = command([
        "certs".as_ref(),
        "--dir".as_ref(),
        directory.path().join("certs").as_os_str(),
    ]);
    assert!(certs.stdout(writer).status().unwrap().success());
}

#[test]
fn rules_of_a_kafka_are_commands_of_its_own_tool() {
    let words = "site rules berlin --down news --up alarms --group reports --bootstrap-server kafka:9092";
    let words: Vec<_> = words.split(' ').collect();
    let said = fieldline(&words);
    let lines: Vec<_> = said.out.lines().collect();
    assert_eq!(lines.len(), 9, "{said:?}");
    let begin = "kafka-acls --add --allow-principal User:CN=berlin --operation ";
    for line in &lines {
        assert!(
            line.starts_with(begin) && line.ends_with(" --bootstrap-server kafka:9092"),
            "{line}"
        );
    }
    for wanted in [
        "--topic news ",
        "--topic alarms ",
        "--group reports ",
        "--topic berlin. --resource-pattern-type prefixed ",
    ] {
        assert!(
            lines.iter().any(|line| line.contains(wanted)),
            "{wanted}: {said:?}"
        );
    }
    fieldline(&["site", "rules", "berlin", "--principal", "User:north"]).prints("User:north");
}
