//! Batches of formats from before Kafka 0.11, and of none that is known: today's brokers store neither, so a line to one puts
//! them in the place of what the broker sends to the client that carries batches. The other client, which reads record by
//! record, gets what the broker has.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::broker::{self, Outgoing};
use common::schemas::ServiceStatus;
use testkit::eventually;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::kafka::{Port, told};
use crate::rig::{LIMIT, Rig, record};

const VALUE: &[u8] = b"a record of long ago";
const KEY: &str = "old";
/// Where a batch says of which format it is, when its first record was made, and how long what comes before its records is.
const MAGIC: usize = 16;
const TIME: usize = 27;
const HEADER: usize = 61;
/// Offset and length of a batch, or a message.
const FRONT: usize = 12;

/// What the line makes of a batch.
type Change = fn(&mut [u8]);

/// Finds the batches that have nothing but the record, and changes them.
fn change(bytes: &mut [u8], change: Change, changed: &AtomicUsize) {
    for found in 0..bytes.len().saturating_sub(VALUE.len()) {
        if bytes[found..found + VALUE.len()] != *VALUE {
            continue;
        }
        // Attributes, time, offset, both lengths and the key; and the record's own length, which may take two bytes.
        let before = HEADER + 5 + KEY.len();
        for start in [1, 2]
            .into_iter()
            .filter_map(|length| found.checked_sub(before + length))
        {
            let length = &bytes[start + 8..start + FRONT];
            let end = start + FRONT + u32::from_be_bytes(length.try_into().unwrap()) as usize;
            if bytes[start..start + 4] == [0; 4] && bytes[start + MAGIC] == 2 && end <= bytes.len() {
                change(&mut bytes[start..end]);
                changed.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
    }
}

/// The record as Kafka 0.10 kept it; what is left of the batch's bytes is a message that is cut short, as answers may be.
fn aged(batch: &mut [u8]) {
    let mut body = vec![1, 0];
    body.extend_from_slice(&batch[TIME..TIME + 8]);
    for part in [KEY.as_bytes(), VALUE] {
        body.extend_from_slice(&u32::try_from(part.len()).unwrap().to_be_bytes());
        body.extend_from_slice(part);
    }
    let length = u32::try_from(body.len() + 4).unwrap();
    let mut message = batch[..8].to_vec();
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(&crc32fast::hash(&body).to_be_bytes());
    message.extend_from_slice(&body);
    let (old, rest) = batch.split_at_mut(message.len());
    old.copy_from_slice(&message);
    rest.fill(0x7f);
}

/// A format that is yet to come.
fn of_tomorrow(batch: &mut [u8]) {
    batch[MAGIC] = 3;
}

async fn relay(near: TcpStream, far: String, made: Change, changed: Arc<AtomicUsize>) -> std::io::Result<()> {
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
            change(&mut bytes[..length], made, &changed);
        }
        near_out.write_all(&bytes[..length]).await?;
    }
}

/// Has a link reach the core by such a line.
async fn by_such_a_line(rig: &mut Rig, made: Change, port: &Port) -> (Arc<AtomicUsize>, JoinHandle<()>) {
    let listener = eventually(LIMIT, || async {
        let listener = TcpListener::bind(&port.line).await;
        listener.map_err(|error| error.to_string())
    })
    .await;
    let (far, changed) = (port.far.clone(), Arc::new(AtomicUsize::new(0)));
    let seen = changed.clone();
    let line = tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            tokio::spawn(relay(near, far.clone(), made, seen.clone()));
        }
    });
    rig.settings.core = broker::Settings::url(format!("kafka://{}", port.line));
    (changed, line)
}

/// Sends the record to the core, and others behind it.
async fn send_old(rig: &Rig) {
    let old = Outgoing {
        key: Some(KEY.into()),
        value: Some(VALUE.into()),
        headers: Vec::new(),
        ..record(&rig.news, 30)
    };
    rig.core.producer().unwrap().send_all(vec![old]).await.unwrap();
    rig.send(31, 30).await;
}

async fn message_of_an_old_format(mut rig: Rig) {
    let port = Port::free().await;
    let (changed, line) = by_such_a_line(&mut rig, aged, &port).await;
    let running = rig.start();
    rig.send(0, 30).await;
    rig.all_is_carried().await;
    assert_eq!(changed.load(Ordering::Relaxed), 0);
    send_old(&rig).await;
    rig.all_is_carried().await;
    assert!(changed.load(Ordering::Relaxed) > 0, "it was seen as an old one");
    let told = rig
        .reports("one", |status| status.counters.get("carried_down") >= Some(&61))
        .await;
    assert_eq!(told.detail, None, "nothing goes another way");
    running.stop().await;
    line.abort();
}

async fn batch_that_cannot_be_read(mut rig: Rig) {
    let port = Port::free().await;
    let (changed, line) = by_such_a_line(&mut rig, of_tomorrow, &port).await;
    let running = rig.start();
    rig.send(0, 30).await;
    rig.all_is_carried().await;
    send_old(&rig).await;
    rig.all_is_carried().await;
    assert!(changed.load(Ordering::Relaxed) > 0, "it was seen as another one");
    let says = |status: &ServiceStatus| {
        let detail = status.detail.as_deref().unwrap_or_default();
        detail.contains("neither counted nor held to the budget")
    };
    rig.reports("one", says).await;
    // Nothing comes for half a minute, and batches are tried again.
    rig.reports("one", |status| !says(status)).await;
    rig.send(61, 30).await;
    rig.all_is_carried().await;
    running.stop().await;
    line.abort();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_LINE and KAFKA_FAR"]
async fn message_of_an_old_format_is_carried_like_any_other() {
    message_of_an_old_format(Rig::small_edge().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_EDGE_2_URL, KAFKA_LINE and KAFKA_FAR"]
async fn between_two_kafkas_a_message_of_an_old_format_is_carried_like_any_other() {
    let (rig, _told) = told().await;
    message_of_an_old_format(rig).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_LINE and KAFKA_FAR"]
async fn batch_that_cannot_be_read_is_carried_record_by_record_and_that_stands_in_every_status() {
    batch_that_cannot_be_read(Rig::small_edge().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs KAFKA_URL, KAFKA_EDGE_2_URL, KAFKA_LINE and KAFKA_FAR"]
async fn between_two_kafkas_a_batch_that_cannot_be_read_is_carried_record_by_record() {
    let (rig, _told) = told().await;
    batch_that_cannot_be_read(rig).await;
}
