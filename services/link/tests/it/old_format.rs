//! Batches of a format from before Kafka 0.11: today's brokers store none, so a line to one makes a batch look like that, to
//! the client that carries batches. The other client, which reads record by record, gets it as a broker would give it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::broker::{self, Outgoing};
use testkit::eventually;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::kafka::{LINE, url};
use crate::rig::{LIMIT, Rig, record};

const VALUE: &[u8] = b"a record of long ago";
const KEY: &str = "old";
/// Where a batch says of which format it is, and how long what comes before its records is.
const MAGIC: usize = 16;
const HEADER: usize = 61;

/// Makes the batch look old that has nothing but the record.
fn age(bytes: &mut [u8], aged: &AtomicUsize) {
    let found = bytes.windows(VALUE.len()).position(|window| window == VALUE);
    // Attributes, time, offset, both lengths and the key; and the record's own length, which may take two bytes.
    let before = HEADER + 5 + KEY.len();
    let starts = [1, 2].map(|length| found?.checked_sub(before + length));
    for start in starts.into_iter().flatten() {
        if bytes[start..start + 4] == [0; 4] && bytes[start + MAGIC] == 2 {
            bytes[start + MAGIC] = 1;
            aged.fetch_add(1, Ordering::Relaxed);
            return;
        }
    }
}

async fn relay(near: TcpStream, far: String, aged: Arc<AtomicUsize>) -> std::io::Result<()> {
    let far = TcpStream::connect(far).await?;
    let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (near.into_split(), far.into_split());
    let mut first = vec![0; 4096];
    let length = near_in.read(&mut first).await?;
    first.truncate(length);
    // Each says its name first.
    let other = first.windows(10).any(|window| window == b"librdkafka");
    far_out.write_all(&first).await?;
    tokio::spawn(async move { tokio::io::copy(&mut near_in, &mut far_out).await });
    let mut bytes = vec![0; 1 << 20];
    loop {
        let length = far_in.read(&mut bytes).await?;
        if length == 0 {
            return Ok(());
        }
        if !other {
            age(&mut bytes[..length], &aged);
        }
        near_out.write_all(&bytes[..length]).await?;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_LINE and KAFKA_FAR"]
async fn batch_of_an_old_format_is_carried_record_by_record() {
    let _guard = LINE.lock().await;
    let listener = eventually(LIMIT, || async {
        let listener = TcpListener::bind(url("KAFKA_LINE")).await;
        listener.map_err(|error| error.to_string())
    })
    .await;
    let (far, aged) = (url("KAFKA_FAR"), Arc::new(AtomicUsize::new(0)));
    let seen = aged.clone();
    let line = tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            tokio::spawn(relay(near, far.clone(), seen.clone()));
        }
    });

    let mut rig = Rig::small_edge().await;
    rig.settings.core = broker::Settings::url(format!("kafka://{}", url("KAFKA_LINE")));
    let running = rig.start();
    rig.send(0, 30).await;
    rig.all_is_carried().await;
    assert_eq!(aged.load(Ordering::Relaxed), 0);
    let old = Outgoing {
        key: Some(KEY.into()),
        value: Some(VALUE.into()),
        ..record(&rig.news, 30)
    };
    rig.core.producer().unwrap().send_all(vec![old]).await.unwrap();
    rig.send(31, 30).await;
    rig.all_is_carried().await;
    assert!(
        aged.load(Ordering::Relaxed) > 0,
        "the batch was seen as an old one"
    );
    running.stop().await;
    line.abort();
}
