//! Keepalive in both directions.

use std::time::Duration;

use postroom_client::{CallError, CloseCause, Keepalive};
use postroom_protocol::keepalive::{self, Keepalive as Packet};
use tokio::time::Instant;

use crate::support::{ECHO, Parcel, connect, connect_as};

const SETTINGS: Keepalive = Keepalive { interval: Duration::from_secs(5), count: 3 };

#[tokio::test]
async fn pings_are_answered_also_while_calls_are_under_way() {
    let (client, mut peer, _door) = connect().await;
    let (result, ()) = tokio::join!(client.call::<Parcel>(ECHO, &Parcel::new(1)), async {
        let received = peer.call().await;
        for _ in 0..3 {
            peer.raw(&keepalive::ping()).await;
            let (header, payload) = peer.packet().await.unwrap();
            assert_eq!(keepalive::classify(&header), Some(Packet::Pong));
            assert!(payload.is_empty());
        }
        peer.echo(&received).await;
    });
    result.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_silent_service_is_pinged_and_then_given_up() {
    let since = Instant::now();
    let (client, mut peer, _door) = connect_as(&[], |builder| builder.keepalive(SETTINGS)).await;
    let (result, ()) = tokio::join!(client.call::<Parcel>(ECHO, &Parcel::new(1)), async {
        peer.call().await;
        for n in 1..=3 {
            let (header, _) = peer.packet().await.unwrap();
            assert_eq!(keepalive::classify(&header), Some(Packet::Ping));
            assert_eq!(since.elapsed().as_secs(), n * 5);
        }
        assert!(peer.packet().await.is_none());
    });
    assert_eq!(since.elapsed().as_secs(), 20);
    let error = result.unwrap_err();
    assert!(
        matches!(&error, CallError::Closed(reason)
            if matches!(reason.cause(), CloseCause::Keepalive { pings: 3, silence } if silence.as_secs() == 20)),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn any_packet_counts_as_life() {
    let (client, mut peer, _door) = connect_as(&[], |builder| builder.keepalive(SETTINGS)).await;
    for n in 0..20 {
        let (header, _) = peer.packet().await.unwrap();
        assert_eq!(keepalive::classify(&header), Some(Packet::Ping));
        match n % 2 {
            0 => peer.raw(&keepalive::pong()).await,
            // An event that nobody asked for: also a sign of life.
            _ => peer.send(&postroom_protocol::Header { program: 9, ..header }, b"").await,
        }
    }
    assert!(client.close_reason().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_service_that_talks_is_not_pinged() {
    let (client, mut peer, _door) = connect_as(&[], |builder| builder.keepalive(SETTINGS)).await;
    for id in 0..20 {
        tokio::time::sleep(Duration::from_millis(4900)).await;
        let (result, ()) = tokio::join!(client.call::<Parcel>(ECHO, &Parcel::new(id)), async {
            let received = peer.call().await;
            peer.echo(&received).await;
        });
        result.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn without_keepalive_nothing_is_sent() {
    let (client, mut peer, _door) = connect().await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    drop(client);
    assert!(peer.packet().await.is_none());
}
