//! What libvirt's clients see of the daemon byte by byte, without `virsh`.

use postroom_protocol::libvirt::RemoteError;
use postroom_protocol::xdr::Fixed;
use postroom_protocol::{PacketType, Status, xdr};

use crate::examples::example;
use crate::support::*;

const REMOTE: u32 = 0x2000_8086;

fn payload<T: serde::Serialize>(value: &T) -> Vec<u8> {
    let mut payload = Vec::new();
    xdr::encode(value, &mut payload).unwrap();
    payload
}

/// Calls a procedure: the status and the payload of its reply.
fn remote(client: &mut Client, procedure: i32, payload: &[u8]) -> (Status, Vec<u8>) {
    client.send(&call(REMOTE, procedure, 7, payload));
    let reply = client.packet();
    assert_eq!((reply.header.packet_type, reply.header.serial), (PacketType::Reply, 7), "{reply:?}");
    (reply.header.status, reply.payload)
}

#[test]
fn the_conversation_of_virsh_hostname_is_answered_as_libvirt_answers_it() {
    let service = example("libvirt_daemon");
    let mut client = service.client();
    let mut check = |procedure, arguments: &[u8], expected: &[u8]| {
        assert_eq!(remote(&mut client, procedure, arguments), (Status::Ok, expected.to_vec()), "{procedure}");
    };
    check(66, &[], &[0, 0, 0, 1, 0, 0, 0, 0]);
    check(60, &payload(&10), &[0, 0, 0, 1]);
    check(1, &payload(&(Some("test:///default"), 6)), &[]);
    check(60, &payload(&14), &[0, 0, 0, 1]);
    check(60, &payload(&15), &[0, 0, 0, 1]);
    check(60, &payload(&8), &[0, 0, 0, 0]);
    check(360, &[], &[]);
    check(361, &[], &[]);
    check(2, &[], &[]);
}

#[test]
fn what_it_does_not_do_is_an_unknown_procedure_to_libvirt() {
    let service = example("libvirt_daemon");
    let mut client = service.client();
    for procedure in [5, 208, 362, 443, 9999, -1] {
        let (status, payload) = remote(&mut client, procedure, &[]);
        let error = RemoteError::decode(&payload).unwrap();
        assert_eq!(status, Status::Error);
        assert_eq!((error.code.0, error.domain.0, error.level), (39, 7, 2));
        assert_eq!(error.message, Some(format!("unknown procedure: {procedure}")));
    }
}

#[test]
fn faults_have_libvirts_numbers_and_words() {
    let service = example("libvirt_daemon");
    let mut client = service.client();
    let mut check = |procedure, arguments: &[u8], (code, domain): (i32, i32), message: &str| {
        let (status, payload) = remote(&mut client, procedure, arguments);
        assert_eq!(status, Status::Error, "{procedure}");
        let error = RemoteError::decode(&payload).unwrap();
        assert_eq!((error.code.0, error.domain.0, error.level), (code, domain, 2), "{error:?}");
        assert_eq!(error.message.as_deref(), Some(message));
    };
    let gone = ("gone", Fixed([0x11; 16]), -1);
    let uuid = "11111111-1111-1111-1111-111111111111";
    check(23, &payload(&"gone"), (42, 12), "Domain not found: no domain with matching name 'gone'");
    check(22, &payload(&77), (42, 12), "Domain not found: no domain with matching id 77");
    let text = format!("Domain not found: no domain with matching uuid '{uuid}'");
    check(24, &payload(&gone.1), (42, 12), &text);
    check(34, &payload(&gone), (42, 12), &format!("{text} (gone)"));
    check(11, &payload(&"<domain/>"), (1, 20), "internal error: missing domain type attribute");
    check(316, &payload(&(99, None::<i32>)), (1, 12), "internal error: unsupported event ID 99");
    check(317, &payload(&5), (1, 12), "internal error: domain event callback 5 not registered");
}

#[test]
fn arguments_that_do_not_decode_harm_nobody() {
    let service = example("libvirt_daemon");
    let mut client = service.client();
    for arguments in [&[][..], &[0, 0, 0, 9, b'x'], &[0xff; 4], &[0, 0, 0, 1, b'x', 0, 0, 1]] {
        let (status, payload) = remote(&mut client, 23, arguments);
        assert_eq!(status, Status::Error);
        let error = RemoteError::decode(&payload).unwrap();
        assert_eq!((error.code.0, error.domain.0), (8, 7), "{error:?}");
    }
    assert_eq!(remote(&mut client, 22, &payload(&1)).0, Status::Ok);
}

#[test]
fn an_event_is_libvirts_to_the_last_byte() {
    let service = example("libvirt_daemon");
    let mut client = service.client();
    let (_, first) = remote(&mut client, 316, &payload(&(0, None::<i32>)));
    let (_, other) = remote(&mut client, 316, &payload(&(1, None::<i32>)));
    assert_ne!(first, other);
    let uuid = Fixed(*b"\x66\x95\xeb\x01\xf6\xa4\x83\x04\x79\xaa\x97\xf2\x50\x2e\x19\x3f");
    let mut actor = service.client();
    assert_eq!(remote(&mut actor, 34, &payload(&("test", uuid, 1))).0, Status::Ok);
    let event = client.packet();
    let header = event.header;
    assert_eq!((header.program, header.version, header.procedure), (REMOTE, 1, 318));
    assert_eq!((header.packet_type, header.serial, header.status), (PacketType::Event, 1, Status::Ok));
    // The number of the callback, the domain, suspended, paused.
    let id: i32 = xdr::decode(&first).unwrap();
    assert_eq!(event.payload, payload(&(id, ("test", uuid, 1), 3, 0)));
    assert_eq!(remote(&mut client, 317, &first).0, Status::Ok);
    assert_eq!(remote(&mut actor, 28, &payload(&("test", uuid, 1))).0, Status::Ok);
    // The next packet is no event, but the answer.
    assert_eq!(remote(&mut client, 317, &other), (Status::Ok, vec![]));
}

#[test]
fn who_subscribes_by_name_is_told_that_its_events_are_xdr() {
    let service = example("libvirt_daemon");
    let mut client = service.client();
    let event = [("program", "remote".into()), ("event", "domain_event_callback_lifecycle".into())];
    let error = client.call_error(DIRECTORY, 4, &map(event));
    assert_eq!(error.code(), "unsupported");
    assert_eq!(error.message(), "the events of program remote are xdr; its clients subscribe by procedures of its own");
}
