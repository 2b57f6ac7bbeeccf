//! An administrator of a Kafka that has access rules: does what commands of Kafka's own tool say, without that tool.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Kafka's numbers for what its tool names.
const OPERATIONS: [(&str, u8); 9] = [
    ("All", 2),
    ("Read", 3),
    ("Write", 4),
    ("Create", 5),
    ("Delete", 6),
    ("Alter", 7),
    ("Describe", 8),
    ("DescribeConfigs", 10),
    ("AlterConfigs", 11),
];

fn text(into: &mut Vec<u8>, text: &str) {
    into.extend(i16::try_from(text.len()).unwrap_or(i16::MAX).to_be_bytes());
    into.extend(text.as_bytes());
}

/// The rules that a command adds, one for each operation, as CreateAcls has them.
fn rules(command: &str) -> Vec<Vec<u8>> {
    let mut words = command.split_whitespace();
    assert_eq!(words.next(), Some("kafka-acls"), "{command}");
    let (mut who, mut of, mut literal, mut operations) = (None, None, true, Vec::new());
    while let Some(option) = words.next() {
        if option == "--add" {
            continue;
        }
        let value = words
            .next()
            .unwrap_or_else(|| panic!("{option} of what? {command}"));
        match option {
            "--allow-principal" => who = Some((value, 3)),
            "--deny-principal" => who = Some((value, 2)),
            "--topic" => of = Some((2, value)),
            "--group" => of = Some((3, value)),
            "--transactional-id" => of = Some((5, value)),
            "--resource-pattern-type" => literal = value == "literal",
            "--operation" => {
                let known = OPERATIONS.iter().find(|(name, _)| *name == value);
                operations.push(known.unwrap_or_else(|| panic!("no operation {value}")).1);
            }
            "--bootstrap-server" => {}
            _ => panic!("{option} is not known here: {command}"),
        }
    }
    let Some(((principal, says), (kind, name))) = who.zip(of) else {
        panic!("who may do what? {command}");
    };
    let rule = |operation| {
        let mut rule: Vec<u8> = vec![kind];
        text(&mut rule, name);
        rule.push(if literal { 3 } else { 4 });
        text(&mut rule, principal);
        text(&mut rule, "*");
        rule.extend([operation, says]);
        rule
    };
    operations.into_iter().map(rule).collect()
}

/// Does what commands say at the Kafka that lets everybody do everything at this port (CreateAcls, version 1).
///
/// A broker keeps to a rule a moment later.
///
/// # Panics
/// When a command makes no sense, or that Kafka does not do what it says.
pub async fn run(server: &str, commands: &[impl AsRef<str>]) {
    let all: Vec<_> = commands
        .iter()
        .flat_map(|command| rules(command.as_ref()))
        .collect();
    let mut request = vec![0, 30, 0, 1, 0, 0, 0, 7];
    text(&mut request, "test");
    request.extend(u32::try_from(all.len()).unwrap_or(u32::MAX).to_be_bytes());
    request.extend(all.concat());
    let answer = ask(server.trim_start_matches("kafka://"), &request).await;
    let answer = answer.unwrap_or_else(|error| panic!("{server}: {error}"));
    // Correlation id, throttle time, count; then for each rule a code and its words, which are none for 0.
    let codes: Vec<_> = answer[12..].chunks(4).collect();
    let good: Vec<&[u8]> = all.iter().map(|_| &[0, 0, 0, 0][..]).collect();
    assert_eq!(codes, good, "{answer:?}");
}

async fn ask(server: &str, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u32::try_from(request.len()).map_err(io::Error::other)?;
    stream.write_u32(length).await?;
    stream.write_all(request).await?;
    let length = stream.read_u32().await?;
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}
