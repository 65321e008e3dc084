//! Peers that are no Postroom, or do not want this client.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use postroom_client::{ConnectError, ConnectProblem, Connector, Duplex, Error, LocalService};
use postroom_protocol::{Header, PacketType, Status};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::support::{Door, Peer};

/// What connecting comes to when the peer does this.
async fn refused(peer: impl AsyncFnOnce(Peer)) -> ConnectError {
    let mut door = Door::new();
    let builder = door.connector.builder().connect_timeout(Duration::from_secs(25));
    let (result, ()) = tokio::join!(builder.connect("local:test"), async {
        let accepted = door.accept().await;
        peer(accepted).await;
    });
    result.expect_err("no connection")
}

#[tokio::test]
async fn text_and_garbage_are_recognised() {
    let cases: [&[u8]; 6] = [
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"-ERR unknown command\r\n",
        b"\x00\x00\x00\x05\x01\x02\x03\x04",
        &[0x00; 64],
        // A packet by chance, and more than fits.
        &[
            0x00, 0x10, 0x00, 0x00, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23,
            24,
        ],
    ];
    for bytes in cases {
        let error = refused(async |mut peer| peer.raw(bytes).await).await;
        assert!(matches!(error.problem(), ConnectProblem::NotPostroom(_)), "{error}");
        let shown = bytes[..6].escape_ascii().to_string();
        assert!(error.to_string().contains(&shown) && error.to_string().contains("local:test"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_banner_that_is_shorter_than_a_header_is_recognised_although_its_peer_waits() {
    let started = tokio::time::Instant::now();
    let error = refused(async |mut peer| {
        peer.raw(b"SSH-2.0-x\r\n").await;
        while peer.packet().await.is_some() {}
    })
    .await;
    assert!(matches!(error.problem(), ConnectProblem::NotPostroom(_)), "{error}");
    assert!(error.to_string().contains("it sent \"SSH-2.0-x\\r\\n\""), "{error}");
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

#[tokio::test]
async fn an_answer_to_the_greeting_that_is_not_postrooms() {
    for status in [Status::Ok, Status::Error] {
        let error = refused(async |mut peer| {
            let (header, _) = peer.call().await;
            // XDR, as libvirt answers.
            peer.send(&header.reply(status), &[0, 0, 0, 1, 0, 0, 0, 7]).await;
        })
        .await;
        assert!(matches!(error.problem(), ConnectProblem::NotPostroom(_)), "{error}");
        assert_eq!(error.to_string().matches("its answer to the greeting does not decode").count(), 1, "{error}");
        assert!(error.to_string().contains("no Postroom service") && error.refusal().is_none(), "{error}");
    }
}

#[tokio::test]
async fn a_peer_that_closes_at_once() {
    let error = refused(async |peer| drop(peer)).await;
    assert!(matches!(error.problem(), ConnectProblem::Closed(_)), "{error}");
    assert!(error.to_string().contains("before it had answered the greeting; is this the address"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing() {
    let error = refused(async |mut peer| while peer.packet().await.is_some() {}).await;
    assert!(matches!(error.problem(), ConnectProblem::Timeout(after) if after.as_secs() == 25), "{error}");
}

#[tokio::test]
async fn a_service_that_is_full_says_so() {
    let overloaded = Error::overloaded("max_clients", 10u64, None);
    let error = refused(async |mut peer| peer.announce(&overloaded).await).await;
    assert_eq!(error.refusal(), Some(&overloaded));
    assert!(error.to_string().contains("max_clients is 10"), "{error}");
}

/// A peer that has said this and closed before the client could write; the runtime sees it a moment later.
struct Slammed(Vec<u8>, bool);

impl AsyncRead for Slammed {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.1, true) {
            task.waker().wake_by_ref();
            return Poll::Pending;
        }
        room.put_slice(&std::mem::take(&mut self.0));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Slammed {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct Slams(Vec<u8>);

impl LocalService for Slams {
    fn open(&self) -> io::Result<Box<dyn Duplex>> {
        Ok(Box::new(Slammed(self.0.clone(), false)))
    }
}

#[tokio::test]
async fn a_service_that_is_full_and_has_closed_before_the_client_could_write_says_so_too() {
    let overloaded = Error::overloaded("max_clients", 10u64, None);
    let mut bytes = Vec::new();
    postroom_protocol::encode_announcement(&overloaded, &mut bytes);
    let connector = Connector::new().with_local("full", Arc::new(Slams(bytes)));
    let error = connector.connect("local:full").await.unwrap_err();
    assert_eq!(error.refusal(), Some(&overloaded), "{error}");
}

#[tokio::test]
async fn a_service_that_refuses_the_greeting() {
    let denied = Error::new("denied", "user 1000 may not connect");
    let error = refused(async |mut peer| {
        let (header, _) = peer.call().await;
        peer.fail(&header, &denied).await;
    })
    .await;
    assert!(matches!(error.problem(), ConnectProblem::Refused(error) if *error == denied), "{error}");
}

#[tokio::test]
async fn keepalive_and_a_greeting_that_grows_are_fine() {
    let mut door = Door::new();
    let connector = door.connector.clone();
    let (client, mut peer) = tokio::join!(connector.connect("local:test"), async {
        let mut peer = door.accept().await;
        peer.raw(&postroom_protocol::keepalive::ping()).await;
        let (hello, _) = peer.call().await;
        // {"service": "x", "limits": {"max_packet": 99, "name": "text"}, "new": nil}
        let result = b"\x83\xa7service\xa1x\xa6limits\x82\xaamax_packet\x63\xa4name\xa4text\xa3new\xc0";
        peer.send(&Header { packet_type: PacketType::Reply, ..hello }, result).await;
        peer
    });
    let service = client.unwrap().service();
    assert_eq!(service.limits.get("max_packet"), Some(&99));
    assert_eq!(service.limits.len(), 1);
    assert_eq!(postroom_protocol::keepalive::classify(&peer.packet().await.unwrap().0).unwrap() as u8, 1);
}
