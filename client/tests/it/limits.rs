//! The service's limits, which the client learns and keeps.

use postroom_client::{CallError, Code};
use postroom_protocol::HEADER_LEN;

use crate::support::{ECHO, Parcel, connect_as};

#[tokio::test]
async fn the_greeting_tells_who_the_service_is() {
    let (client, _peer, _door) = connect_as(&[("max_packet", 1000), ("of_the_future", 3)], |builder| builder).await;
    let service = client.service();
    assert_eq!((service.service.as_str(), service.version.as_str(), service.client_id), ("test", "1.2", 7));
    assert_eq!(service.limits["of_the_future"], 3);
    assert_eq!(client.peer(), "local:test");
}

#[tokio::test]
async fn a_packet_over_the_limit_is_not_sent() {
    let (client, peer, _door) = connect_as(&[("max_packet", 1000)], |builder| builder.keepalive(None)).await;
    tokio::spawn(peer.serve());
    let fits = vec![0xc0; 1000 - HEADER_LEN];
    assert_eq!(client.request(ECHO).raw_args(fits).send_raw().await.unwrap().len(), 1000 - HEADER_LEN);
    let error = client.request(ECHO).raw_args(vec![0xc0; 1001 - HEADER_LEN]).send_raw().await.unwrap_err();
    assert_eq!(error.code(), Some(&Code::TOO_LARGE));
    assert!(matches!(&error, CallError::Refused(error) if error.limit() == Some(("max_packet", 1000))), "{error}");
    assert!(error.to_string().contains("1001 bytes"), "{error}");
    assert_eq!(client.call::<Parcel>(ECHO, &Parcel::new(1)).await.unwrap(), Parcel::new(1));
}

#[tokio::test]
async fn more_calls_than_the_service_takes_wait_their_turn() {
    for (service, own) in [(3, u32::MAX), (100, 3)] {
        let limits = [("max_client_requests", service)];
        let (client, mut peer, _door) = connect_as(&limits, |b| b.keepalive(None).max_in_flight(own)).await;
        let calls: Vec<_> = (0..50)
            .map(|id| {
                let client = client.clone();
                tokio::spawn(async move { client.call::<Parcel>(ECHO, &Parcel::new(id)).await.unwrap().id })
            })
            .collect();
        let mut unanswered = std::collections::VecDeque::new();
        for _ in 0..3 {
            unanswered.push_back(peer.call().await);
        }
        // Each reply lets exactly one more call through, and they come in order.
        let mut ids = Vec::new();
        while let Some(received) = unanswered.pop_front() {
            let parcel: Parcel = postroom_protocol::codec::decode(&received.1).unwrap();
            ids.push(parcel.id);
            peer.echo(&received).await;
            if ids.len() + unanswered.len() < 50 {
                unanswered.push_back(peer.call().await);
            }
            assert!(unanswered.len() <= 3);
        }
        assert!(ids.is_sorted(), "first come, first served: {ids:?}");
        for (id, call) in calls.into_iter().enumerate() {
            assert_eq!(call.await.unwrap(), id as u64);
        }
    }
}

#[tokio::test]
async fn a_reply_over_the_clients_own_limit_fails_its_call_only() {
    let (client, peer, _door) = connect_as(&[], |builder| builder.keepalive(None).max_reply(4096)).await;
    tokio::spawn(peer.serve());
    let error = client.request(ECHO).raw_args(vec![0xc0; 5000]).send_raw().await.unwrap_err();
    assert!(matches!(&error, CallError::Refused(error) if error.limit() == Some(("max_reply", 4096))), "{error}");
    assert_eq!(client.call::<Parcel>(ECHO, &Parcel::new(1)).await.unwrap(), Parcel::new(1));
}
