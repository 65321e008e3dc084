//! Headers, and the packets that consist of nothing else.

use postroom_protocol::keepalive::{self, Keepalive};
use postroom_protocol::{HEADER_LEN, Header, PacketType, Status};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_header(bytes in any::<[u8; HEADER_LEN]>()) {
        let (length, header) = Header::decode(&bytes);
        prop_assert_eq!(header.encode(length), bytes);
    }
}

#[test]
fn words_with_a_name_are_never_unknown() {
    for word in -3..40 {
        let packet_type = PacketType::from_wire(word);
        assert_eq!(packet_type.to_wire(), word);
        let named = matches!(word, 0..=6 | 16..=18);
        assert_eq!(!matches!(packet_type, PacketType::Unknown(_)), named);

        let status = Status::from_wire(word);
        assert_eq!(status.to_wire(), word);
        assert_eq!(!matches!(status, Status::Unknown(_)), (0..3).contains(&word));
    }
}

#[test]
fn only_calls_are_calls() {
    let calls: Vec<i32> = (0..20)
        .filter(|word| {
            let packet_type = PacketType::from_wire(*word);
            let header = Header { packet_type, ..Header::ANNOUNCEMENT };
            header.is_call()
        })
        .collect();
    assert_eq!(calls, [0, 4, 16]);
}

#[test]
fn keepalive_is_known_by_program_version_type_and_number() {
    let (_, ping) = Header::decode(&keepalive::ping());
    let (_, pong) = Header::decode(&keepalive::pong());
    assert_eq!(keepalive::classify(&ping), Some(Keepalive::Ping));
    assert_eq!(keepalive::classify(&pong), Some(Keepalive::Pong));
    let serial = Header { serial: 9, ..ping };
    assert_eq!(keepalive::classify(&serial), Some(Keepalive::Ping));
    for other in [
        Header { program: 1, ..ping },
        Header { version: 2, ..ping },
        Header { procedure: 3, ..ping },
        ping.reply(Status::Ok),
    ] {
        assert_eq!(keepalive::classify(&other), None);
    }
}
