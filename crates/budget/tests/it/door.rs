//! The door, as a process on the same machine meets it.

use budget::door::{Door, Settings as DoorSettings};
use budget::{Budget, Class, Settings, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn ask(door: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(door).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn open(budget: &Budget, allow: &[String]) -> std::net::SocketAddr {
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
    let connect = |address: &str, class: &str| {
        format!("CONNECT {address} HTTP/1.1\r\nfieldline-class: {class}\r\n\r\n")
    };
    let answer = ask(door, &connect("127.0.0.1:22", "requests")).await;
    assert!(
        answer.starts_with("HTTP/1.1 403") && answer.contains("127.0.0.1:22"),
        "{answer}"
    );
    let answer = ask(door, &connect("127.0.0.1:9", "assets")).await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("metered"),
        "{answer}"
    );
    let answer = ask(door, &connect("127.0.0.1:9", "requests")).await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert!(
        ask(door, "GET / HTTP/1.1\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 400")
    );
}
