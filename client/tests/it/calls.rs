//! Calls and their replies: typed, untyped, in any order, from many tasks.

use postroom_client::{CallError, Client, Code, Error};
use postroom_protocol::{PacketType, Splitter, Status, Step, packet};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use crate::support::{ECHO, PROGRAM, Parcel, connect};

#[tokio::test]
async fn a_call_is_a_map_and_gets_its_result() {
    let (client, mut peer, _door) = connect().await;
    let sent = Parcel::new(7);
    let (reply, ()) = tokio::join!(client.call::<Parcel>(ECHO, &sent), async {
        let received = peer.call().await;
        assert_eq!(received.0.packet_type, PacketType::Call);
        assert_eq!((received.0.program, received.0.version, received.0.procedure), (PROGRAM, 1, 1));
        assert_eq!(received.1[..5], [0x82, 0xa2, b'i', b'd', 7]);
        peer.echo(&received).await;
    });
    assert_eq!(reply.unwrap(), sent);
}

#[tokio::test]
async fn a_program_calls_by_number() {
    let (client, peer, _door) = connect().await;
    tokio::spawn(peer.serve());
    let program = client.program("echo", PROGRAM, 1);
    assert_eq!(program.call::<Parcel>(3, &Parcel::new(1)).await.unwrap(), Parcel::new(1));
    assert_eq!(program.name(), "echo");
}

#[tokio::test]
async fn raw_bytes_go_out_and_come_back_as_they_are() {
    let (client, peer, _door) = connect().await;
    tokio::spawn(peer.serve());
    for length in [0, 1, 300, 70_000, 1_000_000] {
        let bytes = vec![0xc1; length];
        let reply = client.request(ECHO).raw_args(bytes.clone()).send_raw().await.unwrap();
        assert!(reply == bytes, "{length} bytes");
    }
}

#[tokio::test]
async fn what_the_service_answers_as_an_error_is_one() {
    let (client, mut peer, _door) = connect().await;
    let (typed, untyped, ()) = tokio::join!(client.call::<Parcel>(ECHO, &1), client.request(ECHO).send_raw(), async {
        for _ in 0..2 {
            let (header, _) = peer.call().await;
            peer.fail(&header, &Error::overloaded("max_pending_calls", 3u64, 20)).await;
        }
    });
    for error in [typed.unwrap_err(), untyped.unwrap_err()] {
        assert!(
            matches!(&error, CallError::Service(error) if error.limit() == Some(("max_pending_calls", 3))
                && error.retry_after_ms() == Some(20)),
            "{error}"
        );
        assert_eq!(error.code(), Some(&Code::OVERLOADED));
    }
}

#[tokio::test]
async fn a_reply_of_the_wrong_type_says_so_and_hurts_nobody() {
    #[derive(Debug, Deserialize)]
    struct Other {
        #[allow(dead_code)]
        missing: String,
    }
    let (client, peer, _door) = connect().await;
    tokio::spawn(peer.serve());
    let error = client.call::<Other>(ECHO, &Parcel::new(1)).await.unwrap_err();
    assert!(matches!(error, CallError::Decode(_)) && error.to_string().contains("missing"), "{error}");
    assert_eq!(client.call::<Parcel>(ECHO, &Parcel::new(2)).await.unwrap(), Parcel::new(2));
}

#[tokio::test]
async fn arguments_that_do_not_encode_are_not_sent() {
    struct Stubborn;
    impl serde::Serialize for Stubborn {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("I will not"))
        }
    }
    let (client, peer, _door) = connect().await;
    tokio::spawn(peer.serve());
    let error = client.call::<Parcel>(ECHO, &Stubborn).await.unwrap_err();
    assert!(matches!(error, CallError::Encode(_)) && error.to_string().contains("I will not"), "{error}");
}

#[tokio::test]
async fn replies_in_any_order_reach_their_callers() {
    let (client, mut peer, _door) = connect().await;
    let call = |id| {
        let client = client.clone();
        tokio::spawn(async move { client.call::<Parcel>(ECHO, &Parcel::new(id)).await.unwrap() })
    };
    let calls: Vec<_> = (0..16).map(call).collect();
    let mut received = Vec::new();
    for _ in 0..16 {
        received.push(peer.call().await);
    }
    // Backwards, and every other one in pieces.
    for (header, payload) in received.iter().rev() {
        let mut bytes = Vec::new();
        packet::encode_packet(&header.reply(Status::Ok), payload, &mut bytes);
        let (head, tail) = bytes.split_at(if header.serial % 2 == 0 { 0 } else { 30 });
        peer.raw(head).await;
        tokio::task::yield_now().await;
        peer.raw(tail).await;
    }
    for (id, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), Parcel::new(id as u64));
    }
}

#[tokio::test]
async fn replies_nobody_waits_for_are_ignored() {
    let (client, mut peer, _door) = connect().await;
    let (reply, ()) = tokio::join!(client.call::<Parcel>(ECHO, &Parcel::new(1)), async {
        let received = peer.call().await;
        let header = received.0;
        // Another serial, an earlier generation, another procedure, an event, an unknown type.
        for stray in [
            postroom_protocol::Header { serial: header.serial ^ 1, ..header },
            postroom_protocol::Header { serial: header.serial ^ (1 << 24), ..header },
            postroom_protocol::Header { procedure: 99, ..header },
        ] {
            peer.reply(&stray, &Parcel::new(66)).await;
        }
        for packet_type in [PacketType::Event, PacketType::Unknown(77)] {
            peer.send(&postroom_protocol::Header { packet_type, ..header }, b"stray").await;
        }
        peer.echo(&received).await;
        // The same once more: a call is answered once.
        peer.reply(&header, &Parcel::new(66)).await;
    });
    assert_eq!(reply.unwrap(), Parcel::new(1));
    tokio::spawn(peer.serve());
    assert_eq!(client.call::<Parcel>(ECHO, &Parcel::new(2)).await.unwrap(), Parcel::new(2));
}

/// Answers each batch of calls backwards, so that replies are never in order.
async fn serve_backwards(listener: UnixListener) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut splitter = Splitter::new(u32::MAX);
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let n = stream.read(&mut chunk).await.unwrap();
        if n == 0 {
            return;
        }
        let (mut input, mut replies) = (&chunk[..n], Vec::new());
        while let Step::Packet(packet) = splitter.next(&mut input, 0).unwrap() {
            let mut reply = Vec::new();
            let is_hello = packet.header.program != PROGRAM;
            let payload = if is_hello { &b"\x81\xa7service\xa0"[..] } else { &packet.payload[..] };
            packet::encode_packet(&packet.header.reply(Status::Ok), payload, &mut reply);
            replies.push(reply);
        }
        let bytes: Vec<u8> = replies.into_iter().rev().flatten().collect();
        stream.write_all(&bytes).await.unwrap();
    }
}

async fn share_one_connection() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let service = tokio::spawn(serve_backwards(UnixListener::bind(&path).unwrap()));
    let client = Client::connect(format!("unix:{}", path.display())).await.unwrap();
    let tasks: Vec<_> = (0..64)
        .map(|task: u64| {
            let client = client.clone();
            tokio::spawn(async move {
                for n in 0..1563 {
                    let parcel = Parcel::new(task << 32 | n);
                    assert_eq!(client.call::<Parcel>(ECHO, &parcel).await.unwrap(), parcel);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    drop(client);
    service.await.unwrap();
}

#[tokio::test]
async fn sixty_four_tasks_share_one_connection() {
    share_one_connection().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_tasks_share_one_connection_from_many_threads() {
    share_one_connection().await;
}

#[tokio::test]
async fn great_calls_and_replies_pass_each_other() {
    let (client, peer, _door) = connect().await;
    tokio::spawn(peer.serve());
    let calls: Vec<_> = (0..40u8)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move {
                let bytes = vec![n; 200_000];
                assert!(client.request(ECHO).raw_args(bytes.clone()).send_raw().await.unwrap() == bytes);
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
}
