//! The door, as a process on the same machine meets it.

use std::net::SocketAddr;
use std::time::Duration;

use budget::door::{Door, Settings as DoorSettings};
use budget::{Budget, Class, Settings, Status};
use testkit::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn ask(door: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(door).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// How many connections there is room for.
const PLACES: usize = 64;
const LIMIT: Duration = Duration::from_secs(20);

fn connect_to(address: &str, class: &str) -> String {
    format!("CONNECT {address} HTTP/1.1\r\nfieldline-class: {class}\r\n\r\n")
}

/// A connection through the door; else what it answered.
async fn through(door: SocketAddr, far: &str) -> Result<TcpStream, String> {
    let mut stream = TcpStream::connect(door).await.unwrap();
    stream
        .write_all(connect_to(far, "assets").as_bytes())
        .await
        .unwrap();
    let mut head = vec![0; 19];
    stream.read_exact(&mut head).await.unwrap();
    if head == b"HTTP/1.1 200 OK\r\n\r\n" {
        return Ok(stream);
    }
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    Err(format!("{}{rest}", String::from_utf8(head).unwrap()))
}

/// A peer at the other end of a line on which nothing comes back: it says and ends nothing.
async fn silent() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut all = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            all.push(stream);
        }
    });
    address
}

async fn open(budget: &Budget, allow: &[String]) -> SocketAddr {
    let settings = DoorSettings {
        listen: Some(([127, 0, 0, 1], 0).into()),
        allow: allow.to_vec(),
    };
    let door = Door::open(budget, &settings).await.unwrap().unwrap();
    let address = door.address();
    tokio::spawn(door.run());
    address
}

#[tokio::test]
async fn a_connection_goes_through_the_door_and_is_counted_in_its_class() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let far = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut from, mut to) = stream.split();
            drop(tokio::io::copy(&mut from, &mut to).await);
        }
    });
    let budget = Budget::detached(Settings::default()).unwrap();
    let door = open(&budget, std::slice::from_ref(&far)).await;
    let mut stream = TcpStream::connect(door).await.unwrap();
    let request = format!("CONNECT {far} HTTP/1.1\r\nHost: {far}\r\nfieldline-class: previews\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 19];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK\r\n\r\n");
    stream.write_all(&[5; 1000]).await.unwrap();
    let mut echo = [0; 1000];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(echo, [5; 1000]);

    let answer = ask(door, "GET /budget HTTP/1.1\r\nHost: door\r\n\r\n").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let status: Status = serde_json::from_str(body).unwrap();
    assert_eq!(
        status.classes[Class::Previews as usize].day,
        2000,
        "both directions"
    );
}

#[tokio::test]
async fn the_door_says_why_it_stays_shut() {
    let budget = Budget::detached(Settings {
        metered: true,
        ..Settings::default()
    })
    .unwrap();
    let door = open(&budget, &["127.0.0.1:9".to_owned()]).await;
    let answer = ask(door, &connect_to("127.0.0.1:22", "requests")).await;
    assert!(
        answer.starts_with("HTTP/1.1 403") && answer.contains("127.0.0.1:22"),
        "{answer}"
    );
    let answer = ask(door, &connect_to("127.0.0.1:9", "assets")).await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("metered"),
        "{answer}"
    );
    let answer = ask(door, &connect_to("127.0.0.1:9", "requests")).await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert!(
        ask(door, "GET / HTTP/1.1\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 400")
    );
}

#[tokio::test]
async fn however_many_connections_stand_the_budget_is_told_and_one_more_is_told_why_not() {
    let budget = Budget::detached(Settings::default()).unwrap();
    let far = silent().await;
    let door = open(&budget, std::slice::from_ref(&far)).await;
    let stand = all_places(door, &far).await;
    let answer = ask(door, "GET /budget HTTP/1.1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let refused = through(door, &far).await.unwrap_err();
    assert!(
        refused.starts_with("HTTP/1.1 503") && refused.contains("64 connections"),
        "{refused}"
    );
    // They gave up, and of the line nothing is heard.
    drop(stand);
    all_have_room(door, &far).await;
}

/// As many connections as there is room for.
async fn all_places(door: SocketAddr, far: &str) -> Vec<TcpStream> {
    let mut stand = Vec::new();
    for _ in 0..PLACES {
        stand.push(through(door, far).await.unwrap());
    }
    stand
}

/// There comes to be room for as many.
async fn all_have_room(door: SocketAddr, far: &str) {
    let mut stand = Vec::new();
    for _ in 0..PLACES {
        stand.push(eventually(LIMIT, || through(door, far)).await);
    }
}

#[tokio::test]
async fn who_gives_up_while_his_class_is_held_has_no_place_any_more() {
    let budget = Budget::detached(Settings::default()).unwrap();
    let far = silent().await;
    let door = open(&budget, std::slice::from_ref(&far)).await;
    let mut stand = all_places(door, &far).await;
    let held = Settings {
        metered: true,
        ..Settings::default()
    };
    budget.set(held).unwrap();
    for stream in &mut stand {
        stream.write_all(b"waits until assets may cross").await.unwrap();
    }
    // They must have been read, or all would be as if nothing had been said.
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(stand);
    tokio::time::sleep(Duration::from_secs(8)).await;
    budget.set(Settings::default()).unwrap();
    all_have_room(door, &far).await;
}

#[tokio::test]
async fn what_is_under_way_comes_to_its_end_when_one_side_has_no_more_to_say() {
    let budget = Budget::detached(Settings {
        cap: Some("40KB".parse().unwrap()),
        ..Settings::default()
    })
    .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let far = listener.local_addr().unwrap().to_string();
    let door = open(&budget, std::slice::from_ref(&far)).await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        stream.read_to_end(&mut asked).await.unwrap();
        // It takes longer than nothing may move.
        stream.write_all(&vec![7; 320_000]).await.unwrap();
    });
    let mut stream = through(door, &far).await.unwrap();
    stream.write_all(b"all of it").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    assert_eq!(all.len(), 320_000);
}
