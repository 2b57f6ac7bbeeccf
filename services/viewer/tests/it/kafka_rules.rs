//! Rules of a Kafka: who may do what there, made as its administrator makes them.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What a rule is about, as the protocol numbers it.
#[derive(Clone, Copy)]
pub(crate) enum On {
    Topic = 2,
    TransactionalId = 5,
}

#[derive(Clone, Copy)]
pub(crate) enum Names {
    Literal = 3,
    Prefixed = 4,
}

#[derive(Clone, Copy)]
pub(crate) enum May {
    All = 2,
    Read = 3,
    Write = 4,
    Describe = 8,
    DescribeConfigs = 11,
}

#[derive(Clone, Copy)]
pub(crate) enum Says {
    Deny = 2,
    Allow = 3,
}

/// One rule.
pub(crate) struct Rule<'a> {
    pub(crate) says: Says,
    pub(crate) principal: &'a str,
    pub(crate) may: May,
    pub(crate) on: On,
    pub(crate) names: Names,
    pub(crate) name: &'a str,
}

fn text(into: &mut Vec<u8>, text: &str) {
    into.extend(i16::try_from(text.len()).unwrap().to_be_bytes());
    into.extend(text.as_bytes());
}

/// Makes rules at the Kafka that listens here without TLS (CreateAcls, version 1).
pub(crate) async fn make(server: &str, rules: &[Rule<'_>]) {
    let mut request = vec![0, 30, 0, 1, 0, 0, 0, 7];
    text(&mut request, "test");
    request.extend(i32::try_from(rules.len()).unwrap().to_be_bytes());
    for rule in rules {
        request.push(rule.on as u8);
        text(&mut request, rule.name);
        request.push(rule.names as u8);
        text(&mut request, rule.principal);
        text(&mut request, "*");
        request.extend([rule.may as u8, rule.says as u8]);
    }
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream
        .write_u32(u32::try_from(request.len()).unwrap())
        .await
        .unwrap();
    stream.write_all(&request).await.unwrap();
    let length = stream.read_u32().await.unwrap();
    let mut answer = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut answer).await.unwrap();
    // Correlation id, throttle time, count; then for each rule a code and its words, which are none for 0.
    let codes: Vec<_> = answer[12..].chunks(4).collect();
    let good: Vec<&[u8]> = rules.iter().map(|_| &[0, 0, 0, 0][..]).collect();
    assert_eq!(codes, good, "{answer:?}");
}
