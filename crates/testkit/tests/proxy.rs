//! The way to a server is cut where it is told to, and a stall closes nothing.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::Ipv4Addr;
use std::time::Duration;

use hutong_testkit::launch::Proxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

const SOON: Duration = Duration::from_millis(100);

/// Starts a server that says back what it hears, and a way to it.
async fn echo() -> (Proxy, JoinSet<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let proxy = Proxy::to(listener.local_addr().unwrap().port()).await.unwrap();
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut sessions = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            sessions.spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await.ok();
            });
        }
    });
    (proxy, server)
}

async fn client(proxy: &Proxy) -> TcpStream {
    TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await.unwrap()
}

async fn said(client: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
    client.write_all(text).await?;
    let mut answer = vec![0; text.len()];
    client.read_exact(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn a_cut_comes_in_the_midst_of_a_message_and_ends_every_connection_once() {
    let (proxy, _server) = echo().await;
    let (mut one, mut two) = (client(&proxy).await, client(&proxy).await);
    assert_eq!(said(&mut one, b"hello").await.unwrap(), b"hello");
    assert_eq!(said(&mut two, b"hello").await.unwrap(), b"hello");

    proxy.cut_after(8);
    one.write_all(b"hello").await.unwrap();
    let mut answer = Vec::new();
    // A cut may look like an end or like a reset.
    let _ = one.read_to_end(&mut answer).await;

    assert_eq!(answer, b"hel", "five bytes there, three back");
    assert!(!proxy.is_to_cut());
    assert!(said(&mut two, b"hello").await.is_err(), "it cuts every connection");
    assert_eq!(said(&mut client(&proxy).await, b"hello").await.unwrap(), b"hello", "new ones are carried");
}

#[tokio::test]
async fn nothing_comes_behind_a_cut() {
    let (proxy, _server) = echo().await;
    let sent: Vec<u8> = (0..500_000_u32).flat_map(u32::to_be_bytes).collect();
    for bytes in [1, 100_001, 300_001, 1_000_001] {
        let mut client = client(&proxy).await;
        proxy.cut_after(bytes);
        let (mut from, mut to) = client.split();
        let mut answer = Vec::new();

        // Both end with the cut, as an end or as a reset.
        let _ = tokio::join!(to.write_all(&sent), from.read_to_end(&mut answer));

        assert!(
            sent.starts_with(&answer),
            "cut after {bytes}: what came back is what was sent, up to the cut"
        );
        assert!((answer.len() as u64) < bytes);
    }
}

#[tokio::test]
async fn a_stall_closes_nothing_and_what_was_held_up_goes_on() {
    let (proxy, _server) = echo().await;
    let mut one = client(&proxy).await;
    assert_eq!(said(&mut one, b"hello").await.unwrap(), b"hello");

    proxy.stall();
    let mut two = client(&proxy).await;
    assert!(timeout(SOON, said(&mut one, b"again")).await.is_err(), "nobody answers");
    assert!(timeout(SOON, said(&mut two, b"again")).await.is_err(), "nor a new one");
    proxy.resume();

    let mut answer = [0; 5];
    one.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"again");
    two.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"again");
}

#[tokio::test]
async fn a_connection_that_is_forgotten_hears_nothing_any_more_and_new_ones_do() {
    let (proxy, _server) = echo().await;
    let mut one = client(&proxy).await;
    assert_eq!(said(&mut one, b"hello").await.unwrap(), b"hello");

    proxy.strand();

    assert!(timeout(SOON, said(&mut one, b"again")).await.is_err(), "neither an answer nor an end");
    assert_eq!(said(&mut client(&proxy).await, b"hello").await.unwrap(), b"hello");
}

#[tokio::test]
async fn who_comes_to_a_closed_way_is_sent_away_until_it_is_opened() {
    let (proxy, _server) = echo().await;
    let mut one = client(&proxy).await;
    assert_eq!(said(&mut one, b"hello").await.unwrap(), b"hello");

    proxy.close();

    assert!(said(&mut one, b"hello").await.is_err());
    assert!(said(&mut client(&proxy).await, b"hello").await.is_err());
    proxy.resume();
    assert_eq!(said(&mut client(&proxy).await, b"hello").await.unwrap(), b"hello");
}
