use std::io::ErrorKind;
use std::time::Duration;

use testkit::eventually;
use testkit::proxy::{Conditions, Cut, End, Flow, Proxy, Way};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

const LIMIT: Duration = Duration::from_secs(20);
/// Long enough for anything that is on its way on loopback, short enough to wait out.
const MOMENT: Duration = Duration::from_millis(150);

/// A server that sends everything back, and a proxy before it.
async fn echo(seed: u64) -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ended = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    Proxy::start("127.0.0.1:0", &address, seed).await.unwrap()
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

fn noise(count: usize) -> Vec<u8> {
    (0..count)
        .map(|at| u8::try_from(at * 31 % 251).unwrap())
        .collect()
}

async fn back(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    timeout(LIMIT, stream.read_exact(&mut bytes))
        .await
        .unwrap()
        .unwrap();
    bytes
}

#[tokio::test]
async fn bytes_go_through_unchanged_and_are_counted() {
    let proxy = echo(1).await;
    let sent = noise(1_000_000);
    let stream = connect(&proxy).await;
    let (mut from, mut to) = stream.into_split();
    let copy = sent.clone();
    let sender = tokio::spawn(async move {
        to.write_all(&copy).await.unwrap();
        to.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    timeout(LIMIT, from.read_to_end(&mut got)).await.unwrap().unwrap();
    sender.await.unwrap();
    assert!(got == sent);
    let carried = proxy.carried();
    assert_eq!((carried.up, carried.down), (1_000_000, 1_000_000));
    assert_eq!((carried.connections, carried.cut), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn address_of_a_proxy_that_was_dropped_is_free_at_once() {
    let mut proxy = echo(1).await;
    let (address, upstream) = (proxy.address().to_string(), "127.0.0.1:9");
    for _ in 0..200 {
        drop(proxy);
        proxy = Proxy::start(&address, upstream, 1).await.unwrap();
    }
}

#[tokio::test]
async fn delay_is_waited_out_each_way_and_can_be_changed_while_it_runs() {
    let proxy = echo(1).await;
    let mut stream = connect(&proxy).await;
    // What is wrong is late by a whole delay.
    for (delay, least, most) in [(300, 900, 5000), (0, 0, 800)] {
        proxy.change(|now| {
            now.up.delay = Duration::from_millis(2 * delay);
            now.down.delay = Duration::from_millis(delay);
        });
        let began = Instant::now();
        stream.write_all(b"ping").await.unwrap();
        assert_eq!(back(&mut stream, 4).await, b"ping");
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(least), "{took:?}");
        assert!(took < Duration::from_millis(most), "{took:?}");
    }
}

#[tokio::test]
async fn rate_holds_over_all_connections_together() {
    let proxy = echo(1).await;
    proxy.change(|now| now.down.rate = Some(200_000));
    let began = Instant::now();
    let one = async {
        let mut stream = connect(&proxy).await;
        stream.write_all(&noise(50_000)).await.unwrap();
        back(&mut stream, 50_000).await
    };
    let two = async {
        let mut stream = connect(&proxy).await;
        stream.write_all(&noise(50_000)).await.unwrap();
        back(&mut stream, 50_000).await
    };
    tokio::join!(one, two);
    let took = began.elapsed().as_secs_f64();
    // 100,000 bytes at 200,000 a second; more only if the machine is busy.
    assert!((0.45..10.0).contains(&took), "{took}");
}

#[tokio::test]
async fn cut_comes_before_the_very_byte_it_was_told() {
    for cut in [Cut::Reset, Cut::Fin] {
        let proxy = echo(1).await;
        proxy.cut_after(Way::Down, 1234, cut);
        let mut stream = connect(&proxy).await;
        stream.write_all(&noise(5000)).await.unwrap();
        let mut got = Vec::new();
        let ended = timeout(LIMIT, stream.read_to_end(&mut got)).await.unwrap();
        assert_eq!(got, noise(1234));
        match cut {
            Cut::Reset => assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset),
            Cut::Fin => assert_eq!(ended.unwrap(), 1234),
        }
        assert_eq!((proxy.carried().down, proxy.carried().cut), (1234, 1));
    }
}

#[tokio::test]
async fn cuts_now_and_then_come_from_the_seed() {
    let until_cut = async |seed: u64| {
        let proxy = echo(seed).await;
        proxy.change(|now| now.up.cut = Some(10_000));
        let mut places = Vec::new();
        let mut before = 0;
        for _ in 0..5 {
            let mut stream = connect(&proxy).await;
            let mut got = Vec::new();
            let (mut from, mut to) = stream.split();
            // The reset may come while the rest is still being written.
            let _sent = tokio::join!(to.write_all(&[7; 200_000]), from.read_to_end(&mut got));
            let carried = proxy.carried().up;
            places.push(carried - before);
            before = carried;
        }
        assert_eq!(proxy.carried().cut, 5);
        places
    };
    let places = timeout(LIMIT, until_cut(7)).await.unwrap();
    assert_eq!(places, timeout(LIMIT, until_cut(7)).await.unwrap());
    assert!(places.iter().sum::<u64>() < 500_000);
}

#[tokio::test]
async fn stalled_line_accepts_and_carries_nothing_until_it_goes_on() {
    let proxy = echo(1).await;
    let mut before = connect(&proxy).await;
    before.write_all(b"a").await.unwrap();
    back(&mut before, 1).await;
    proxy.change(|now| now.flow = Flow::Stalled);
    let mut during = connect(&proxy).await;
    for stream in [&mut before, &mut during] {
        stream.write_all(b"b").await.unwrap();
        assert!(timeout(MOMENT, stream.read_u8()).await.is_err());
    }
    proxy.change(|now| now.flow = Flow::Open);
    for stream in [&mut before, &mut during] {
        assert_eq!(back(stream, 1).await, b"b");
    }
}

#[tokio::test]
async fn dark_line_resets_who_comes_and_keeps_who_was_there() {
    let proxy = echo(1).await;
    let mut before = connect(&proxy).await;
    before.write_all(b"a").await.unwrap();
    back(&mut before, 1).await;
    proxy.change(|now| now.flow = Flow::Dark);
    before.write_all(b"b").await.unwrap();
    assert!(timeout(MOMENT, before.read_u8()).await.is_err());
    let refused = async {
        let mut stream = TcpStream::connect(proxy.address()).await?;
        stream.read_u8().await
    };
    assert!(timeout(LIMIT, refused).await.unwrap().is_err());
    proxy.change(|now| now.flow = Flow::Open);
    assert_eq!(back(&mut before, 1).await, b"b");
}

#[tokio::test]
async fn half_open_connection_is_silent_at_one_end_and_reset_at_the_other() {
    let proxy = echo(1).await;
    for kept in [End::Client, End::Server] {
        let mut stream = connect(&proxy).await;
        stream.write_all(b"a").await.unwrap();
        back(&mut stream, 1).await;
        proxy.half_open(kept);
        let heard = timeout(MOMENT, stream.read_u8()).await;
        match kept {
            End::Client => {
                assert!(heard.is_err());
                stream.write_all(b"nobody hears this").await.unwrap();
                assert!(timeout(MOMENT, stream.read_u8()).await.is_err());
            }
            End::Server => assert!(heard.unwrap().is_err()),
        }
        let mut other = connect(&proxy).await;
        other.write_all(b"b").await.unwrap();
        assert_eq!(back(&mut other, 1).await, b"b");
    }
}

#[tokio::test]
async fn bits_are_flipped_about_as_often_as_told() {
    let proxy = echo(3).await;
    proxy.change(|now| now.up.flip = Some(1000));
    let mut stream = connect(&proxy).await;
    let sent = noise(100_000);
    let (mut from, mut to) = stream.split();
    let mut got = vec![0; sent.len()];
    let (sending, receiving) = tokio::join!(to.write_all(&sent), from.read_exact(&mut got));
    sending.unwrap();
    receiving.unwrap();
    let wrong: u32 = sent.iter().zip(&got).map(|(a, b)| (a ^ b).count_ones()).sum();
    assert!((50..200).contains(&wrong), "{wrong}");
    assert_eq!(u64::from(wrong), proxy.carried().flipped);
}

#[tokio::test]
async fn slow_line_is_as_slow_as_it_says() {
    let proxy = echo(1).await;
    proxy.set(Conditions::slow(64_000, Duration::from_millis(600)));
    let mut stream = connect(&proxy).await;
    let began = Instant::now();
    stream.write_all(&noise(4000)).await.unwrap();
    back(&mut stream, 4000).await;
    let took = began.elapsed().as_secs_f64();
    // 4,000 bytes take half a second each way, overlapping by all but a packet, and 0.6 s of delay.
    assert!((1.1..10.0).contains(&took), "{took}");
}

#[tokio::test]
async fn line_that_is_long_and_fat_is_filled() {
    let proxy = echo(1).await;
    proxy.change(|now| {
        now.up.rate = Some(2_000_000);
        now.up.delay = Duration::from_secs(1);
    });
    let mut stream = connect(&proxy).await;
    let sent = noise(4_000_000);
    let (mut from, mut to) = stream.split();
    let mut got = vec![0; sent.len()];
    let began = Instant::now();
    let (sending, receiving) = tokio::join!(to.write_all(&sent), from.read_exact(&mut got));
    sending.unwrap();
    receiving.unwrap();
    let took = began.elapsed().as_secs_f64();
    // Two seconds of the line and the delay; 2 MB are on their way at once. With the 0.4 MB that the system's buffers hold
    // it would be ten seconds.
    assert!((2.7..8.0).contains(&took), "{took}");
}

#[tokio::test]
async fn dropped_proxy_ends_its_connections() {
    let proxy = echo(1).await;
    let mut stream = connect(&proxy).await;
    stream.write_all(b"a").await.unwrap();
    back(&mut stream, 1).await;
    let address = proxy.address();
    drop(proxy);
    assert!(timeout(LIMIT, stream.read_u8()).await.unwrap().is_err());
    eventually(LIMIT, || async {
        match TcpStream::connect(address).await {
            Ok(_) => Err("it still listens"),
            Err(_) => Ok(()),
        }
    })
    .await;
}
