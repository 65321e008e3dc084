//! Deadlines and the rest of the metadata.

use std::time::Duration;

use postroom_client::CallError;
use postroom_protocol::{Code, PacketType, split_metadata};
use tokio::time::Instant;

use crate::support::{ECHO, Parcel, connect, connect_as};

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_wait_and_cancels_the_call() {
    let (client, mut peer, _door) = connect().await;
    let since = Instant::now();
    let deadline = Duration::from_millis(250);
    let call = client.request(ECHO).args(&Parcel::new(1)).deadline(deadline).send::<Parcel>();
    let (result, ()) = tokio::join!(call, async {
        let (header, payload) = peer.call().await;
        assert_eq!(header.packet_type, PacketType::CallWithMetadata);
        assert_eq!(payload[..14], *b"\x81\xabdeadline_ms\xcc");
        assert_eq!(payload[14], 250);
        assert_eq!(peer.packet().await.unwrap().0.packet_type, PacketType::Cancel);
    });
    let error = result.unwrap_err();
    assert!(matches!(error, CallError::Deadline(after) if after == deadline), "{error}");
    assert!(error.is_deadline() && error.code() == Some(&Code::DEADLINE_EXCEEDED));
    assert_eq!(since.elapsed().as_millis(), 250);
}

#[tokio::test(start_paused = true)]
async fn the_service_is_told_what_is_left_of_a_deadline_after_the_wait_for_its_turn() {
    let (client, mut peer, _door) = connect_as(&[("max_client_requests", 1)], |builder| builder.keepalive(None)).await;
    let first = client.call::<Parcel>(ECHO, &Parcel::new(1));
    let second = client.request(ECHO).args(&Parcel::new(2)).deadline(Duration::from_secs(1)).send::<Parcel>();
    let (first, second, ()) = tokio::join!(first, second, async {
        let received = peer.call().await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        peer.echo(&received).await;
        let (header, payload) = peer.call().await;
        let (metadata, length) = split_metadata(&payload).unwrap();
        assert_eq!(metadata.deadline_ms, Some(600));
        peer.echo(&(header, payload[length..].to_vec())).await;
    });
    assert_eq!((first.unwrap().id, second.unwrap().id), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn the_clients_own_deadline_holds_unless_a_call_has_another() {
    let (client, mut peer, _door) =
        connect_as(&[], |builder| builder.keepalive(None).deadline(Duration::from_secs(2))).await;
    let calls = async {
        let by_default = client.request(ECHO).args(&1).send::<u32>();
        let own = client.request(ECHO).args(&2).deadline(Duration::from_secs(9)).send::<u32>();
        let none = client.request(ECHO).args(&3).no_deadline().send::<u32>();
        tokio::join!(by_default, own, none)
    };
    let (results, ()) = tokio::join!(calls, async {
        for expected in [Some(2000), Some(9000), None] {
            let (header, payload) = peer.call().await;
            let (deadline, length) = match header.packet_type {
                PacketType::CallWithMetadata => {
                    let (metadata, length) = split_metadata(&payload).unwrap();
                    (metadata.deadline_ms, length)
                }
                _ => (None, 0),
            };
            assert_eq!(deadline, expected);
            peer.echo(&(header, payload[length..].to_vec())).await;
        }
    });
    assert!(matches!(results, (Ok(1), Ok(2), Ok(3))), "{results:?}");
}

#[tokio::test]
async fn trace_and_key_travel() {
    let (client, mut peer, _door) = connect().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let call = client.request(ECHO).args(&5).trace(trace).key("disk-3").send::<u32>();
    let (result, ()) = tokio::join!(call, async {
        let (header, payload) = peer.call().await;
        let (metadata, length) = split_metadata(&payload).unwrap();
        assert_eq!(metadata.trace.as_deref(), Some(trace));
        assert_eq!(metadata.key.as_deref(), Some(&b"disk-3"[..]));
        assert_eq!(metadata.deadline_ms, None);
        peer.echo(&(header, payload[length..].to_vec())).await;
    });
    assert_eq!(result.unwrap(), 5);
}

#[tokio::test]
async fn metadata_over_its_limit_is_refused_here() {
    let (client, _peer, _door) = connect().await;
    let error = client.request(ECHO).key(vec![0; 5000]).send::<()>().await.unwrap_err();
    assert!(matches!(error, CallError::Refused(_)), "{error}");
    assert_eq!(error.code(), Some(&Code::INVALID_ARGUMENTS));
}
