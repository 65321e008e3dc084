//! Futures that are dropped: the service hears of it, and late replies reach nobody.

use std::future::Future;
use std::task::{Context, Poll, Waker};

use postroom_client::{CallError, Client};
use postroom_protocol::PacketType;

use crate::support::{ECHO, Parcel, connect, connect_as};

/// Hands a call in, as a task does that polls it once.
fn start<'a>(client: &'a Client, id: u64) -> impl Future<Output = Result<Parcel, CallError>> + Unpin + use<'a> {
    let mut call = Box::pin(async move { client.call::<Parcel>(ECHO, &Parcel::new(id)).await });
    assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    call
}

#[tokio::test]
async fn a_dropped_call_is_cancelled() {
    let (client, mut peer, _door) = connect().await;
    let call = start(&client, 1);
    let (header, _) = peer.call().await;
    drop(call);
    let (cancel, payload) = peer.packet().await.unwrap();
    assert_eq!(cancel, postroom_protocol::Header { packet_type: PacketType::Cancel, ..header });
    assert!(payload.is_empty());
}

#[tokio::test]
async fn a_late_reply_never_reaches_another_call() {
    let (client, mut peer, _door) = connect().await;
    for id in 0..600 {
        let call = start(&client, id);
        let late = peer.call().await;
        drop(call);
        assert_eq!(peer.packet().await.unwrap().0.packet_type, PacketType::Cancel);
        // The next call is out before the late reply of the one before.
        let next = start(&client, id + 1000);
        let received = peer.call().await;
        assert_ne!(received.0.serial, late.0.serial);
        peer.reply(&late.0, &Parcel::new(66)).await;
        peer.echo(&received).await;
        peer.reply(&late.0, &Parcel::new(66)).await;
        assert_eq!(next.await.unwrap(), Parcel::new(id + 1000));
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_while_it_waits_is_never_sent() {
    let (client, mut peer, _door) = connect_as(&[("max_client_requests", 1)], |builder| builder.keepalive(None)).await;
    let first = start(&client, 1);
    let waiting: Vec<_> = (2..100).map(|id| start(&client, id)).collect();
    let last = start(&client, 100);
    let received = peer.call().await;
    drop(waiting);
    peer.echo(&received).await;
    assert_eq!(first.await.unwrap(), Parcel::new(1));
    let received = peer.call().await;
    peer.echo(&received).await;
    assert_eq!(last.await.unwrap(), Parcel::new(100));
}

#[tokio::test]
async fn an_answered_call_that_is_dropped_is_not_cancelled() {
    let (client, mut peer, _door) = connect().await;
    let call = start(&client, 1);
    let received = peer.call().await;
    peer.echo(&received).await;
    // A second call whose reply comes behind the first one's.
    let second = start(&client, 2);
    let received = peer.call().await;
    peer.echo(&received).await;
    assert_eq!(second.await.unwrap(), Parcel::new(2));
    drop(call);
    drop(client);
    assert!(peer.packet().await.is_none());
}

#[tokio::test]
async fn a_call_may_move_from_task_to_task() {
    let (client, mut peer, _door) = connect().await;
    let mut call = start(&client, 1);
    let received = peer.call().await;
    // The last waker counts, and here that is this task's.
    std::future::poll_fn(|context| {
        assert!(matches!(std::pin::Pin::new(&mut call).poll(context), Poll::Pending));
        Poll::Ready(())
    })
    .await;
    peer.echo(&received).await;
    assert_eq!(call.await.unwrap(), Parcel::new(1));
}
