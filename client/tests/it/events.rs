//! Subscriptions, against a service that the test plays.

use std::time::Duration;

use postroom_client::{Overflow, Reconnect, SubscriptionError};
use postroom_protocol::{Error, Header, PacketType, Status, codec, event, packet};
use serde::{Deserialize, Serialize};

use crate::support::{ECHO, Parcel, Peer, Received, connect, connect_as};

const DIRECTORY: u32 = 0x6469_7265;

#[derive(Debug, Deserialize, PartialEq)]
struct Wish {
    program: String,
    event: String,
    overflow: Overflow,
    queue: u32,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Subscription {
    subscription: u32,
}

fn tick(serial: u32, value: u64, lost: u64) -> Vec<u8> {
    let packet_type = PacketType::Event;
    let header = Header { program: 7, version: 1, procedure: 1, packet_type, serial, status: Status::Ok };
    let (mut payload, mut bytes) = (Vec::new(), Vec::new());
    event::put_head(lost, &mut payload);
    codec::encode(&value, &mut payload).expect("a number");
    packet::encode_packet(&header, &payload, &mut bytes);
    bytes
}

fn is(received: &Received, procedure: i32) -> bool {
    let header = received.0;
    (header.program, header.version, header.procedure) == (DIRECTORY, 1, procedure)
}

/// Opens a subscription; what comes right behind the reply is `events`.
async fn opens(peer: &mut Peer, subscription: u32, events: Vec<u8>) -> Wish {
    let call = peer.call().await;
    assert!(is(&call, 4), "{call:?}");
    let mut bytes = Vec::new();
    let start = packet::begin(&call.0.reply(Status::Ok), &mut bytes);
    codec::encode(&Subscription { subscription }, &mut bytes).expect("a number");
    packet::finish(start, &mut bytes);
    bytes.extend(events);
    peer.raw(&bytes).await;
    codec::decode(&call.1).expect("a wish")
}

/// The client ends a subscription.
async fn ends(peer: &mut Peer) -> u32 {
    let call = peer.call().await;
    assert!(is(&call, 5), "{call:?}");
    peer.reply(&call.0, &()).await;
    codec::decode::<Subscription>(&call.1).expect("a number").subscription
}

#[tokio::test]
async fn events_that_come_with_the_reply_are_not_lost_and_others_are_nobodys() {
    let (client, mut peer, _door) = connect().await;
    let wish = client.subscribe::<u64>("clock/2.tick").overflow(Overflow::DropNewest).queue(9);
    let with_it = [tick(6, 0, 0), tick(5, 1, 3), tick(5, 2, 0)].concat();
    let (events, asked) = tokio::join!(wish.open(), opens(&mut peer, 5, with_it));
    let expected = Wish { program: "clock/2".into(), event: "tick".into(), overflow: Overflow::DropNewest, queue: 9 };
    assert_eq!(asked, expected);
    let mut events = events.expect("a subscription");
    for (value, lost) in [(1, 3), (2, 0)] {
        let event = events.next().await.expect("an event").expect("a number");
        assert_eq!((event.value, event.lost), (value, lost));
    }
}

#[tokio::test]
async fn a_subscription_that_is_dropped_is_ended_and_calls_go_on() {
    let (client, mut peer, _door) = connect().await;
    let (events, _) = tokio::join!(client.subscribe::<u64>("clock.tick").open(), opens(&mut peer, 5, Vec::new()));
    drop(events);
    assert_eq!(ends(&mut peer).await, 5);
    // One that comes late is ignored.
    peer.raw(&tick(5, 1, 0)).await;
    tokio::spawn(peer.serve());
    let parcel: Parcel = client.call(ECHO, &Parcel::new(1)).await.expect("an answer");
    assert_eq!(parcel, Parcel::new(1));
}

#[tokio::test]
async fn a_subscription_that_nobody_waits_for_any_more_is_ended_when_the_service_has_opened_it() {
    let (client, mut peer, _door) = connect().await;
    let opening = {
        let wish = client.subscribe::<u64>("clock.tick").open();
        let mut wish = Box::pin(wish);
        tokio::select! {
            _ = &mut wish => panic!("nobody has answered"),
            call = peer.call() => call,
        }
    };
    let cancel = peer.packet().await.expect("a cancel packet").0;
    assert_eq!((cancel.packet_type, cancel.serial), (PacketType::Cancel, opening.0.serial));
    // It came too late.
    peer.reply(&opening.0, &Subscription { subscription: 8 }).await;
    assert_eq!(ends(&mut peer).await, 8);
}

#[tokio::test]
async fn a_subscription_ends_with_its_connection_and_can_be_had_again_on_the_next() {
    let reconnect = Reconnect { first_delay: Duration::from_millis(1), ..Reconnect::default() };
    let (client, mut peer, mut door) = connect_as(&[], |builder| builder.keepalive(None).reconnect(reconnect)).await;
    let first = client.subscribe::<u64>("clock.tick");
    let (events, _) = tokio::join!(first.open(), opens(&mut peer, 5, tick(5, 1, 0)));
    let mut events = events.expect("a subscription");
    peer.announce(&Error::shutting_down()).await;
    drop(peer);
    assert_eq!(events.next().await.expect("an event").expect("a number").value, 1);
    let error = events.next().await.expect("why").expect_err("no event");
    assert!(matches!(&error, SubscriptionError::Closed(reason) if reason.announced().is_some()), "{error}");
    assert!(events.next().await.is_none());
    let mut peer = door.accept().await;
    peer.greet(&[]).await;
    // The service is another, and the number may be the same; dropping the old one does not end the new one.
    let second = client.subscribe::<u64>("clock.tick");
    let (again, _) = tokio::join!(second.open(), opens(&mut peer, 5, Vec::new()));
    drop(events);
    peer.raw(&tick(5, 2, 0)).await;
    let mut again = again.expect("a subscription");
    assert_eq!(again.next().await.expect("an event").expect("a number").value, 2);
}

#[tokio::test]
async fn what_the_service_refuses_and_names_that_are_none_are_errors_of_the_call() {
    let (client, mut peer, _door) = connect().await;
    let refuse = async {
        let call = peer.call().await;
        peer.fail(&call.0, &Error::invalid_arguments("no event \"tock\"")).await;
    };
    let (events, ()) = tokio::join!(client.subscribe::<u64>("clock.tock").open(), refuse);
    assert_eq!(events.expect_err("refused").code().expect("a code").as_str(), "invalid_arguments");
    let nameless = client.subscribe::<u64>("clock").await.expect_err("no name");
    assert!(nameless.to_string().contains("PROGRAM.EVENT"), "{nameless}");
}
