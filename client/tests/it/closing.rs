//! How connections end, and who hears why.

use postroom_client::{CallError, CloseCause, Code, Error};
use postroom_protocol::{Status, packet};

use crate::support::{ECHO, Parcel, connect};

#[tokio::test]
async fn every_waiting_caller_hears_the_announced_reason() {
    let (client, mut peer, _door) = connect().await;
    let calls: Vec<_> = (0..40)
        .map(|id| {
            let client = client.clone();
            tokio::spawn(async move { client.call::<Parcel>(ECHO, &Parcel::new(id)).await })
        })
        .collect();
    for n in 0..40 {
        let received = peer.call().await;
        if n % 4 == 0 {
            peer.echo(&received).await;
        }
    }
    peer.announce(&Error::shutting_down()).await;
    drop(peer);
    for (id, call) in calls.into_iter().enumerate() {
        match (id % 4, call.await.unwrap()) {
            (0, result) => assert_eq!(result.unwrap(), Parcel::new(id as u64)),
            (_, Err(CallError::Closed(reason))) => {
                assert_eq!(reason.announced(), Some(&Error::shutting_down()));
                assert_eq!(reason.peer(), "local:test");
            }
            (_, other) => panic!("call {id}: {other:?}"),
        }
    }
    // And everyone who comes later.
    let error = client.call::<Parcel>(ECHO, &Parcel::new(1)).await.unwrap_err();
    assert_eq!(error.code(), Some(&Code::SHUTTING_DOWN));
    assert!(error.to_string().contains("local:test") && error.to_string().contains("shutting down"), "{error}");
    assert_eq!(client.closed().await.announced(), Some(&Error::shutting_down()));
    assert!(client.close_reason().is_some());
}

#[tokio::test]
async fn a_service_that_closes_in_the_middle() {
    for whole in [true, false] {
        let (client, mut peer, _door) = connect().await;
        let (result, ()) = tokio::join!(client.call::<Parcel>(ECHO, &Parcel::new(1)), async {
            let (header, payload) = peer.call().await;
            if !whole {
                let mut bytes = Vec::new();
                packet::encode_packet(&header.reply(Status::Ok), &payload, &mut bytes);
                peer.raw(&bytes[..bytes.len() - 1]).await;
            }
            drop(peer);
        });
        let error = result.unwrap_err();
        assert!(
            matches!(&error, CallError::Closed(reason)
                if matches!(reason.cause(), CloseCause::EndOfInput { mid_packet } if *mid_packet != whole)),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_service_that_breaks_the_format() {
    let (client, mut peer, _door) = connect().await;
    let (result, ()) = tokio::join!(client.call::<Parcel>(ECHO, &Parcel::new(1)), async {
        peer.call().await;
        peer.raw(&[0, 0, 0, 5, 1, 2, 3, 4]).await;
    });
    let error = result.unwrap_err();
    assert!(
        matches!(&error, CallError::Closed(reason) if matches!(reason.cause(), CloseCause::Protocol(_))),
        "{error}"
    );
    assert!(error.to_string().contains("length 5"), "{error}");
}

#[tokio::test]
async fn close_waits_for_the_calls_under_way() {
    let (client, mut peer, _door) = connect().await;
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.call::<Parcel>(ECHO, &Parcel::new(1)).await }
    });
    let received = peer.call().await;
    let close = tokio::spawn({
        let client = client.clone();
        async move { client.close().await }
    });
    tokio::task::yield_now().await;
    let error = client.call::<Parcel>(ECHO, &Parcel::new(2)).await.unwrap_err();
    assert!(matches!(&error, CallError::Closed(reason) if matches!(reason.cause(), CloseCause::ClosedHere)), "{error}");
    peer.echo(&received).await;
    assert_eq!(call.await.unwrap().unwrap(), Parcel::new(1));
    close.await.unwrap();
    assert!(peer.packet().await.is_none());
}

#[tokio::test]
async fn the_last_handle_closes_the_connection() {
    let (client, mut peer, _door) = connect().await;
    let program = client.program("echo", 1, 1);
    drop(client);
    let other = program.clone();
    drop(program);
    assert!(other.client().close_reason().is_none());
    drop(other);
    assert!(peer.packet().await.is_none());
}

#[test]
fn a_runtime_that_is_gone_leaves_nobody_waiting() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (client, _peer, _door) = runtime.block_on(connect());
    drop(runtime);
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = other.block_on(client.call::<Parcel>(ECHO, &Parcel::new(1))).unwrap_err();
    assert!(
        matches!(&error, CallError::Closed(reason) if matches!(reason.cause(), CloseCause::RuntimeGone)),
        "{error}"
    );
}
