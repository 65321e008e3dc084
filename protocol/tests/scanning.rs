//! However a stream of MessagePack-RPC is cut, the same messages come out of it.

use postroom_protocol::Payload;
use postroom_protocol::limits::ROOM_FROM;
use postroom_protocol::rpc::{Head, MAX_MESSAGE_DEPTH, MessageType, ScanError, Scanner, Step, TooLarge, encode};
use proptest::prelude::*;
use rmpv::Value;

#[path = "support/rpc_model.rs"]
mod model;

use model::Seen;

const LIMIT: u32 = 128;

#[test]
fn every_pair_of_cuts_gives_the_same() {
    let stream = all_kinds();
    let seen = model::model(&stream, LIMIT);
    assert_eq!(seen.len(), 8, "the stream is followed to its end");
    for first in 0..=stream.len() {
        model::check(&stream, LIMIT, &[first]);
        for second in (first..=stream.len()).step_by(7) {
            model::check(&stream, LIMIT, &[first, second]);
        }
    }
}

#[test]
fn byte_by_byte_gives_the_same() {
    let stream = all_kinds();
    let cuts: Vec<usize> = (0..stream.len()).collect();
    model::check(&stream, LIMIT, &cuts);
}

#[test]
fn a_whole_message_is_borrowed() {
    let first = request(1, &[7; 40]);
    let stream = [&first[..], &request(2, b"x")].concat();
    let mut scanner = Scanner::new(LIMIT);
    let mut input = &stream[..];
    for range in [0..first.len(), first.len()..stream.len()] {
        match scanner.next(&mut input) {
            Ok(Step::Message(Payload::Borrowed(message))) => {
                assert_eq!(message.as_ptr_range(), stream[range].as_ptr_range());
            }
            other => panic!("expected a borrowed message, got {other:?}"),
        }
        assert_eq!(scanner.held(), 0);
    }
    assert!(matches!(scanner.next(&mut input), Ok(Step::NeedInput)));
}

#[test]
fn an_assembled_message_gives_its_buffer_away() {
    let stream = request(1, b"payload");
    let mut scanner = Scanner::new(LIMIT);
    assert!(matches!(scanner.next(&mut &stream[..9]), Ok(Step::NeedInput)));
    assert!(scanner.is_mid_packet());
    match scanner.next(&mut &stream[9..]) {
        Ok(Step::Message(Payload::Assembled(assembled))) => assert_eq!(assembled.into_vec_and_offset(), (stream, 0)),
        other => panic!("expected an assembled message, got {other:?}"),
    }
    assert!(!scanner.is_mid_packet());
    assert_eq!(scanner.held(), 0);
}

#[test]
fn a_claimed_length_holds_no_memory() {
    for claim in [&b"\xc6\x01\xff\xff\xff"[..], b"\xdb\x01\xff\xff\xff", b"\xdd\x01\xff\xff\xff", b"\xdf\0\xff\xff\xff"]
    {
        let mut scanner = Scanner::new(64 << 20);
        let front = [b"\x94\x00\x07\xa1m", claim].concat();
        assert!(matches!(scanner.next(&mut &front[..]), Ok(Step::NeedInput)));
        assert!(scanner.held() <= 64);
    }
}

/// An array of many small values must not be walked over again for every byte that comes.
#[test]
fn a_message_that_trickles_in_is_walked_over_once() {
    let n = 4_000_000_u32;
    let mut stream = b"\x94\x00\x07\xa1m\xdd".to_vec();
    stream.extend(n.to_be_bytes());
    stream.extend(std::iter::repeat_n(0xc0, n as usize));
    let mut scanner = Scanner::new(u32::MAX);
    let mut n_messages = 0;
    // Walking from the start each time would take 40 thousand times as long.
    for mut portion in stream.chunks(100) {
        if let Step::Message(message) = scanner.next(&mut portion).unwrap() {
            assert_eq!(message.len(), stream.len());
            n_messages += 1;
        }
    }
    assert_eq!(n_messages, 1);
}

#[test]
fn too_large_is_reported_as_soon_as_it_is_certain_and_skipped() {
    let mut stream = request(9, &[1; 200]);
    let length = stream.len() as u64;
    let too_large = TooLarge { head: head(MessageType::Request, 9), length, limit: LIMIT, skipped: true };
    assert_eq!(too_large.to_string(), format!("the message has at least {length} bytes, and the limit is 128 bytes"));
    assert_eq!(too_large.head.answerable(), Some(9));
    stream.extend(request(10, b"x"));

    // The length of the bin is behind the array, the type, the id, the method, the array of params, and its marker.
    let certain = 1 + 1 + 1 + 5 + 1 + 2;
    let mut scanner = Scanner::new(LIMIT);
    assert!(matches!(scanner.next(&mut &stream[..certain - 1]), Ok(Step::NeedInput)));
    match scanner.next(&mut &stream[certain - 1..certain]) {
        Ok(Step::TooLarge(seen)) => assert_eq!(seen, too_large),
        other => panic!("expected a refusal, got {other:?}"),
    }
    assert!(scanner.is_mid_packet());
    assert_eq!(scanner.held(), 0);
    match scanner.next(&mut &stream[certain..]) {
        Ok(Step::Message(message)) => assert!(matches!(message, Payload::Borrowed(_))),
        other => panic!("expected the message behind, got {other:?}"),
    }
}

#[test]
fn a_message_at_the_limit_is_taken_and_one_byte_more_is_not() {
    let overhead = request(1, &[0; 100]).len() - 100;
    let at_limit = LIMIT as usize - overhead;
    assert!(matches!(model::drive(&request(1, &vec![0; at_limit]), LIMIT, &[], 0)[..], [Seen::Message(_)]));
    assert!(matches!(model::drive(&request(1, &vec![0; at_limit + 1]), LIMIT, &[], 0)[..], [Seen::TooLarge(_)]));
}

#[test]
fn far_over_the_limit_is_not_skipped() {
    let claims: [(&[u8], u64); 3] = [
        (b"\xc6\xff\xff\xff\xff", 10 + 0xffff_ffff),
        (b"\xdd\xff\xff\xff\xff", 10 + 0xffff_ffff),
        (b"\xdf\xff\xff\xff\xff", 10 + 2 * 0xffff_ffff),
    ];
    for (claim, length) in claims {
        let front = [b"\x94\x00\x07\xa1m", claim].concat();
        let expected = TooLarge { head: head(MessageType::Request, 7), length, limit: LIMIT, skipped: false };
        assert_eq!(model::drive(&front, LIMIT, &[3], 0), [Seen::TooLarge(expected)]);
    }
    // It may also turn out later, with the second of two large values.
    let front = [&b"\x94\x01\x07\xc0\x92\xc5\x07\x00"[..], &[0; 0x700], b"\xc5\xff\xff"].concat();
    let head = head(MessageType::Response, 7);
    assert_eq!(
        model::drive(&front, LIMIT, &[100, 200], 0),
        [
            Seen::TooLarge(TooLarge { head, length: 8 + 0x700 + 1, limit: LIMIT, skipped: true }),
            Seen::Error(ScanError::TooLong { head, length: 8 + 0x700 + 3 + 0xffff, limit: LIMIT }),
        ]
    );
    assert_eq!(head.answerable(), None, "a response is not answered");
}

#[test]
fn nesting_ends_at_the_limit() {
    // The message is the first level.
    for (open, close) in [(&b"\x91"[..], &b"\x90"[..]), (b"\x81\xa0", b"\x80"), (b"\xdc\x00\x01", b"\xdc\0\0")] {
        let nested = |depth: usize| [b"\x94\x00\x07\xa1m", &open.repeat(depth - 2)[..], close].concat();
        let deepest = nested(MAX_MESSAGE_DEPTH);
        assert_eq!(model::drive(&deepest, 1 << 20, &[], 0), [Seen::Message(deepest)]);
        for depth in [MAX_MESSAGE_DEPTH + 1, 100_000] {
            let message = nested(depth);
            match &model::drive(&message, 1 << 20, &[8], 0)[..] {
                [Seen::Error(error @ ScanError::TooDeep { .. })] => {
                    assert_eq!(error.msgid(), Some(7));
                    assert!(error.to_string().starts_with("the message is nested deeper than 66 at offset "));
                }
                other => panic!("expected an error, got {other:?}"),
            }
        }
    }
}

#[test]
fn errors_carry_the_id_where_it_could_be_read() {
    let error = |bytes: &[u8]| {
        let seen = model::drive(bytes, LIMIT, &[], 0);
        let cuts: Vec<usize> = (0..bytes.len()).collect();
        assert_eq!(model::drive(bytes, LIMIT, &cuts, 0), seen);
        match seen[..] {
            [Seen::Error(error)] => error,
            _ => panic!("expected an error, got {seen:?}"),
        }
    };
    let reserved = |bytes: &[u8]| match error(bytes) {
        ScanError::Reserved { head, offset } => (head, offset),
        other => panic!("expected a reserved byte, got {other:?}"),
    };
    assert_eq!(reserved(b"\x94\x00\x07\xa1m\xc1"), (head(MessageType::Request, 7), 5));
    assert_eq!(reserved(b"\x94\x00\xce\xff\xff\xff\xff\xc1"), (head(MessageType::Request, u32::MAX), 7));
    assert_eq!(reserved(b"\x94\x01\xcd\x01\0\xc1"), (head(MessageType::Response, 256), 5));
    assert_eq!(reserved(b"\x94\xcf\0\0\0\0\0\0\0\0\xcf\0\0\0\0\0\0\0\x05\xc1"), (head(MessageType::Request, 5), 19));
    let without_id = |message_type| Head { message_type, msgid: None };
    assert_eq!(reserved(b"\x94\x00\xcf\0\0\0\x01\0\0\0\0\xc1"), (without_id(Some(MessageType::Request)), 11));
    assert_eq!(reserved(b"\x94\x00\xff\xc1"), (without_id(Some(MessageType::Request)), 3));
    assert_eq!(reserved(b"\x94\x00\xc1"), (without_id(Some(MessageType::Request)), 2));
    assert_eq!(reserved(b"\x93\x02\xa1m\xc1"), (without_id(Some(MessageType::Notification)), 4));
    assert_eq!(reserved(b"\x93\x00\x07\xc1"), (without_id(Some(MessageType::Request)), 3));
    assert_eq!(reserved(b"\x94\x03\x07\xc1"), (without_id(None), 3));
    assert_eq!(reserved(b"\x94\xc1"), (without_id(None), 1));
    assert_eq!(
        error(b"\x94\xc1").to_string(),
        "0xc1 starts no MessagePack value, and stands at offset 1 of the message"
    );
    let not_a_message = error(b"\x95\x00");
    assert_eq!(not_a_message, ScanError::NotAMessage { byte: 0x95 });
    assert_eq!(
        not_a_message.to_string(),
        "a message begins with 0x95; it must be an array of three or four (0x93 or 0x94)"
    );
}

#[test]
fn room_grows_with_what_has_arrived_and_ends_with_the_value() {
    let payload: Vec<u8> = (0..20 * ROOM_FROM + 5).map(|n| n as u8).collect();
    let mut stream = b"\x94\x00\x07\xa1m\x92".to_vec();
    stream.push(0xc6);
    stream.extend((payload.len() as u32).to_be_bytes());
    stream.extend(&payload);
    let end_of_value = stream.len();
    stream.extend(b"\xa3end");
    let mut scanner = Scanner::new(u32::MAX);
    let mut arrived = ROOM_FROM - 1;
    scanner.next(&mut &stream[..arrived]).unwrap();
    assert!(scanner.room().is_none(), "too little has arrived");
    scanner.next(&mut &stream[arrived..=arrived]).unwrap();
    arrived += 1;
    let mut n_reads = 0;
    while let Some(room) = scanner.room() {
        assert!(room.len() <= arrived && room.len() <= end_of_value - arrived);
        // A read that fills half of the room, as a socket may.
        let n = room.len().div_ceil(2);
        room[..n].copy_from_slice(&stream[arrived..arrived + n]);
        scanner.filled(n);
        arrived += n;
        n_reads += 1;
        assert!(scanner.held() <= 2 * arrived);
        assert!(matches!(scanner.next(&mut &[][..]), Ok(Step::NeedInput)));
    }
    assert_eq!(arrived, end_of_value);
    assert!(n_reads < 60, "{n_reads} reads");
    match scanner.next(&mut &stream[arrived..]).unwrap() {
        Step::Message(message) => assert_eq!(&message[..], stream),
        other => panic!("expected the message, got {other:?}"),
    }
    assert_eq!(scanner.held(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages_survive_any_cuts(stream in streams(), cuts in prop::collection::vec(0_usize..2000, 0..40)) {
        model::check(&stream, LIMIT, &cuts);
    }

    #[test]
    fn messages_cut_short_anywhere_yield_what_was_whole(
        stream in streams(),
        end in 0_usize..2000,
        cuts in prop::collection::vec(0_usize..2000, 0..8),
    ) {
        model::check(&stream[..end.min(stream.len())], LIMIT, &cuts);
    }

    /// Another implementation of MessagePack finds the same ends.
    #[test]
    fn messages_end_where_another_decoder_ends_them(value in values()) {
        let message = [b"\x94\x00\x07\xa1m", &packed(&value)[..]].concat();
        let stream = [&message[..], b"\x93"].concat();
        let seen = model::drive(&stream, u32::MAX, &[], 0);
        prop_assert_eq!(seen, vec![Seen::Message(message)]);
    }

    #[test]
    fn garbage_never_panics_and_always_ends(
        front in prop_oneof![Just(&b""[..]), Just(&b"\x94\x00\x07"[..]), Just(&b"\x93\x02"[..])],
        rest in prop::collection::vec(any::<u8>(), 0..600),
        cuts in prop::collection::vec(0_usize..600, 0..20),
    ) {
        model::check(&[front, &rest].concat(), LIMIT, &cuts);
    }

    #[test]
    fn large_messages_survive_any_cuts(
        length in 0_usize..400_000,
        cuts in prop::collection::vec(0_usize..400_000, 0..30),
    ) {
        let payload: Vec<u8> = (0..length).map(|n| (n / 251) as u8).collect();
        let stream = [&request(1, b"")[..], &request(2, &payload), &request(3, b"x")].concat();
        model::check(&stream, 1 << 20, &cuts);
        model::check(&stream, 1 << 16, &cuts);
    }
}

fn head(message_type: MessageType, msgid: u32) -> Head {
    Head { message_type: Some(message_type), msgid: Some(msgid) }
}

fn packed(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    rmpv::encode::write_value(&mut out, value).unwrap();
    out
}

/// A request with one bin.
fn request(msgid: u32, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::request(msgid, "echo", &packed(&Value::Array(vec![Value::Binary(data.to_vec())])), &mut out);
    out
}

fn all_kinds() -> Vec<u8> {
    let mut out = request(1, b"");
    out.extend(b"\x94\x00\xce\0\0\0\x02\xa1m\xdd\0\0\0\x02\x81\xa0\xde\0\x01\xc7\x03\x07ext\xd6\x01abcd\xd2\0\0\0\x01");
    encode::response(300, b"\x93\xca\x3f\xc0\0\0\xcb\0\0\0\0\0\0\0\0\xd1\xff\0", &mut out);
    out.extend(request(3, &[9; 140]));
    encode::notification("a.b", b"", &mut out);
    out.extend(request(4, &[9; 100]));
    encode::event("program", "event", b"\xda\x00\x10a long string ab", 70_000, &mut out);
    out.extend(b"\x94\x01\x05\x83\x01\x02\x03\x90\x91\x80\xc2\xc3");
    out
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        any::<f32>().prop_map(Value::F32),
        any::<f64>().prop_map(Value::F64),
        ".{0,40}".prop_map(Value::from),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Value::Binary),
        (any::<i8>(), prop::collection::vec(any::<u8>(), 0..20)).prop_map(|(tag, data)| Value::Ext(tag, data)),
    ];
    leaf.prop_recursive(6, 60, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Value::Array),
            prop::collection::vec((inner.clone(), inner), 0..20).prop_map(Value::Map),
        ]
    })
}

/// Streams of whole messages, some of them too large, and sometimes a malformed one at the end.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let one = prop_oneof![
        4 => (any::<u32>(), prop::collection::vec(any::<u8>(), 0..100)).prop_map(|(id, data)| request(id, &data)),
        4 => (any::<u32>(), values()).prop_map(|(id, value)| {
            let mut out = Vec::new();
            encode::response(id, &packed(&value), &mut out);
            out
        }),
        2 => values().prop_map(|value| {
            let mut out = Vec::new();
            encode::notification("program.event", &packed(&value), &mut out);
            out
        }),
        1 => (100..300_usize).prop_map(|length| request(5, &vec![0; length])),
    ];
    let end = prop_oneof![
        4 => Just(Vec::new()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
        1 => Just(b"\x94\x00\x07\xa1m\x92\xc0\xc1".to_vec()),
        1 => Just([b"\x94\x00\x07\xa1m", &[0x91; 70][..]].concat()),
        1 => any::<u32>().prop_map(|n| [&b"\x94\x00\x07\xa1m\xdf"[..], &n.to_be_bytes()].concat()),
    ];
    (prop::collection::vec(one, 0..12), end).prop_map(|(messages, end)| {
        let mut stream = messages.concat();
        stream.extend(end);
        stream
    })
}
