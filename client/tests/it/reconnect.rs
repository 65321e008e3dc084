//! Connections that are lost and come back.

use std::time::Duration;

use postroom_client::{CallError, Client, ClientBuilder, Error, Reconnect};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::support::{Door, ECHO, Parcel, Peer, connect_as};

fn settings() -> Reconnect {
    Reconnect {
        first_delay: Duration::from_millis(100),
        max_delay: Duration::from_secs(1),
        resends: 2,
        wait_for_service: false,
    }
}

fn coming_back(reconnect: Reconnect) -> impl FnOnce(ClientBuilder) -> ClientBuilder {
    move |builder| builder.keepalive(None).reconnect(reconnect)
}

fn spawn(client: &Client, id: u64, idempotent: bool) -> JoinHandle<Result<Parcel, CallError>> {
    let client = client.clone();
    tokio::spawn(async move {
        let request = client.request(ECHO).args(&Parcel::new(id));
        if idempotent { request.idempotent().send().await } else { request.send().await }
    })
}

async fn again(door: &mut Door) -> Peer {
    let mut peer = door.accept().await;
    peer.greet(&[]).await;
    peer
}

#[tokio::test(start_paused = true)]
async fn idempotent_calls_are_sent_again_and_others_fail_with_the_reason() {
    let (client, mut peer, mut door) = connect_as(&[], coming_back(settings())).await;
    let calls: Vec<_> = (0..20).map(|id| spawn(&client, id, id % 2 == 0)).collect();
    for _ in 0..20 {
        peer.call().await;
    }
    peer.announce(&Error::shutting_down()).await;
    drop(peer);
    let mut peer = again(&mut door).await;
    for n in 0..10 {
        let received = peer.call().await;
        let parcel: Parcel = postroom_protocol::codec::decode(&received.1).unwrap();
        assert_eq!(parcel.id, n * 2, "in the order in which they were sent first");
        peer.echo(&received).await;
    }
    for (id, call) in calls.into_iter().enumerate() {
        match (id % 2, call.await.unwrap()) {
            (0, result) => assert_eq!(result.unwrap(), Parcel::new(id as u64)),
            (_, Err(CallError::Closed(reason))) => assert_eq!(reason.announced(), Some(&Error::shutting_down())),
            (_, other) => panic!("call {id}: {other:?}"),
        }
    }
    // Nothing else was sent, and the client goes on.
    tokio::spawn(peer.serve());
    assert_eq!(client.call::<Parcel>(ECHO, &Parcel::new(99)).await.unwrap(), Parcel::new(99));
}

#[tokio::test(start_paused = true)]
async fn a_call_is_sent_again_only_so_often() {
    let (client, mut peer, mut door) = connect_as(&[], coming_back(settings())).await;
    let call = spawn(&client, 1, true);
    for _ in 0..2 {
        peer.call().await;
        drop(peer);
        peer = again(&mut door).await;
    }
    peer.call().await;
    drop(peer);
    assert!(matches!(call.await.unwrap(), Err(CallError::Closed(_))));
}

#[tokio::test(start_paused = true)]
async fn calls_that_were_never_sent_wait_for_the_next_connection() {
    let limits = [("max_client_requests", 1)];
    let (client, mut peer, mut door) = connect_as(&limits, coming_back(settings())).await;
    let first = spawn(&client, 1, false);
    peer.call().await;
    let second = spawn(&client, 2, false);
    tokio::task::yield_now().await;
    drop(peer);
    assert!(matches!(first.await.unwrap(), Err(CallError::Closed(_))));
    // One that is made while there is no connection waits too.
    let third = spawn(&client, 3, false);
    let peer = again(&mut door).await;
    tokio::spawn(peer.serve());
    assert_eq!(second.await.unwrap().unwrap(), Parcel::new(2));
    assert_eq!(third.await.unwrap().unwrap(), Parcel::new(3));
}

#[tokio::test(start_paused = true)]
async fn a_new_call_waits_for_the_connection_up_to_its_deadline() {
    let (client, peer, _door) = connect_as(&[], coming_back(settings())).await;
    drop(peer);
    let since = Instant::now();
    let deadline = Duration::from_millis(700);
    // The door accepts, but nobody answers the greeting.
    let error = client.request(ECHO).args(&1).deadline(deadline).send::<()>().await.unwrap_err();
    assert!(matches!(error, CallError::Deadline(_)), "{error}");
    assert_eq!(since.elapsed(), deadline);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_not_there_fails_calls_fast() {
    let (client, mut peer, mut door) = connect_as(&[], coming_back(settings())).await;
    let call = spawn(&client, 1, true);
    peer.call().await;
    door.shut();
    drop(peer);
    // The call waits for the next attempt, which is refused; then calls fail at once.
    assert!(matches!(call.await.unwrap(), Err(CallError::Connect(error)) if error.is_absent()));
    let since = Instant::now();
    let error = client.call::<()>(ECHO, &1).await.unwrap_err();
    assert!(matches!(&error, CallError::Connect(error) if error.is_absent()), "{error}");
    assert!(since.elapsed().is_zero());
    assert!(client.close_reason().is_none(), "it goes on trying");
    client.close().await;
}

#[tokio::test(start_paused = true)]
async fn calls_wait_for_a_service_that_is_not_there_if_they_are_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let address = format!("unix:{}", path.display());
    let patient = Reconnect { wait_for_service: true, ..settings() };
    let connect = tokio::spawn(Client::builder().keepalive(None).reconnect(patient).connect(address));
    // Time is paused: this passes when the client has nothing to do but to wait, several times over.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!connect.is_finished());
    let accept = async || {
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let mut peer = Peer::new(listener.accept().await.unwrap().0);
        peer.greet(&[]).await;
        (listener, peer)
    };
    let (listener, mut peer) = accept().await;
    let client = connect.await.unwrap().unwrap();
    let call = spawn(&client, 1, true);
    peer.call().await;
    drop((peer, listener));
    std::fs::remove_file(&path).unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!call.is_finished());
    let (_listener, peer) = accept().await;
    tokio::spawn(peer.serve());
    assert_eq!(call.await.unwrap().unwrap(), Parcel::new(1));
}

#[tokio::test(start_paused = true)]
async fn attempts_back_off() {
    let (client, peer, mut door) = connect_as(&[], coming_back(settings())).await;
    let mut last = Instant::now();
    drop(peer);
    for full in [100, 200, 400, 800, 1000, 1000] {
        // Accepted and closed at once.
        drop(door.accept().await);
        let waited = last.elapsed().as_millis();
        assert!(waited <= full + 2 && waited >= full / 2, "{waited} of {full}");
        last = Instant::now();
    }
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_client_can_be_closed_while_it_comes_back() {
    let (client, peer, _door) = connect_as(&[], coming_back(settings())).await;
    drop(peer);
    let call = spawn(&client, 1, true);
    tokio::task::yield_now().await;
    client.close().await;
    assert!(matches!(call.await.unwrap(), Err(CallError::Closed(_))));
}

#[tokio::test(start_paused = true)]
async fn given_up_calls_leave_nothing_behind_while_there_is_no_connection() {
    let (client, peer, mut door) = connect_as(&[], coming_back(settings())).await;
    drop(peer);
    for id in 0..1000 {
        let call = client.request(ECHO).args(&Parcel::new(id)).deadline(Duration::from_micros(1)).send::<Parcel>();
        assert!(matches!(call.await, Err(CallError::Deadline(_) | CallError::Closed(_))));
    }
    let last = spawn(&client, 5000, false);
    let mut peer = again_when_there(&mut door).await;
    let received = peer.call().await;
    peer.echo(&received).await;
    assert_eq!(last.await.unwrap().unwrap(), Parcel::new(5000));
}

/// As [`again`], where earlier attempts may have timed out.
async fn again_when_there(door: &mut Door) -> Peer {
    loop {
        let mut peer = door.accept().await;
        if let Some((hello, _)) = peer.packet().await {
            peer.send(
                &postroom_protocol::Header { packet_type: postroom_protocol::PacketType::Reply, ..hello },
                b"\x81\xa7service\xa1x",
            )
            .await;
            return peer;
        }
    }
}
