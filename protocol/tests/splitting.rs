//! However a stream is cut, the same packets come out of it.

use postroom_protocol::limits::ROOM_FROM;
use postroom_protocol::{Header, PacketType, Payload, SplitError, Splitter, Status, Step, TooLarge, keepalive, packet};
use proptest::prelude::*;

#[path = "support/model.rs"]
mod model;

const LIMIT: u32 = 128;

#[test]
fn every_pair_of_cuts_gives_the_same() {
    let stream = all_kinds();
    let (seen, _) = model::model(&stream, LIMIT);
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
fn a_whole_packet_is_borrowed() {
    let at_limit = [7; LIMIT as usize - 28];
    let mut stream = build(PacketType::Call, &at_limit);
    let first = stream.len();
    stream.extend(build(PacketType::CallWithFds, b"\0\0\0\x01second"));
    stream.push(0);

    let mut splitter = Splitter::new(LIMIT);
    let mut input = &stream[..];
    for (expected, range, fds) in [(&at_limit[..], 28..first, 0), (b"second", first + 32..stream.len() - 1, 1)] {
        match splitter.next(&mut input, 1) {
            Ok(Step::Packet(packet)) => {
                assert!(matches!(packet.payload, Payload::Borrowed(_)));
                assert_eq!(&*packet.payload, expected);
                assert_eq!(packet.payload.as_ptr_range(), stream[range].as_ptr_range());
                assert_eq!(packet.fds, fds);
            }
            other => panic!("expected a packet, got {other:?}"),
        }
    }
    assert!(matches!(splitter.next(&mut input, 1), Ok(Step::NeedInput)));
    assert_eq!(splitter.held(), 0);
}

#[test]
fn a_packet_that_is_not_whole_or_not_plain_is_left_for_the_next_step() {
    let whole = build(PacketType::Call, b"payload");
    let mut splitter = Splitter::new(LIMIT);
    let stream = [&whole[..], &whole].concat();
    let mut input = &stream[..];
    assert_eq!(splitter.next_whole(&mut input), Some((header(PacketType::Call), &b"payload"[..])));
    assert_eq!(input, whole);

    let too_short = [0, 0, 0, 27].iter().chain(&whole[4..]).copied().collect();
    let too_large = build(PacketType::Call, &[7; LIMIT as usize]);
    for left in [whole[..whole.len() - 1].to_vec(), whole[..27].to_vec(), too_short, too_large, Vec::new()] {
        let mut input = &left[..];
        assert_eq!(splitter.next_whole(&mut input), None);
        assert_eq!(input, left);
    }
    let with_fds = build_with_fds(PacketType::CallWithFds, 1, b"payload");
    assert_eq!(splitter.next_whole(&mut &with_fds[..]), None);
    // In the middle of another.
    assert!(matches!(splitter.next(&mut &whole[..10], 0), Ok(Step::NeedInput)));
    assert_eq!(splitter.next_whole(&mut &whole[..]), None);
}

#[test]
fn an_assembled_packet_gives_its_buffer_away() {
    let stream = build(PacketType::Call, b"payload");
    let mut splitter = Splitter::new(LIMIT);
    assert!(matches!(splitter.next(&mut &stream[..30], 0), Ok(Step::NeedInput)));
    assert!(splitter.is_mid_packet());
    match splitter.next(&mut &stream[30..], 0) {
        Ok(Step::Packet(packet)) => match packet.payload {
            Payload::Assembled(assembled) => {
                assert_eq!(assembled.as_ref(), b"payload");
                assert_eq!(assembled.into_vec_and_offset(), (stream, 28));
            }
            other => panic!("expected an assembled payload, got {other:?}"),
        },
        other => panic!("expected a packet, got {other:?}"),
    }
    assert!(!splitter.is_mid_packet());
    assert_eq!(splitter.held(), 0);
}

#[test]
fn a_claimed_length_holds_no_memory() {
    let header = header(PacketType::Call).encode(30 << 20);
    let mut splitter = Splitter::new(32 << 20);
    assert!(matches!(splitter.next(&mut &header[..], 0), Ok(Step::NeedInput)));
    assert!(splitter.held() <= 64);
}

#[test]
fn a_too_short_length_needs_four_bytes() {
    let mut splitter = Splitter::new(LIMIT);
    assert!(matches!(splitter.next(&mut &[0, 0, 0][..], 0), Ok(Step::NeedInput)));
    assert_eq!(splitter.next(&mut &[27][..], 0).unwrap_err(), SplitError::TooShort { length: 27 });
    assert!(!splitter.is_mid_packet());
    assert_eq!(splitter.next(&mut &[][..], 0).unwrap_err(), SplitError::Finished);
}

#[test]
fn too_large_is_reported_at_the_header_and_skipped() {
    let mut stream = build(PacketType::Call, &[1; 200]);
    stream.extend(keepalive::ping());
    let mut splitter = Splitter::new(LIMIT);
    let mut input = &stream[..28];
    match splitter.next(&mut input, 0) {
        Ok(Step::TooLarge(too_large)) => assert_eq!(
            too_large,
            TooLarge { header: header(PacketType::Call), length: 228, limit: LIMIT, skipped: true }
        ),
        other => panic!("expected a refusal, got {other:?}"),
    }
    assert!(splitter.is_mid_packet());
    assert_eq!(splitter.held(), 0);
    match splitter.next(&mut &stream[28..], 0) {
        Ok(Step::Packet(packet)) => assert!(matches!(packet.payload, Payload::Borrowed(_))),
        other => panic!("expected the packet behind the body, got {other:?}"),
    }
}

#[test]
fn a_too_large_packet_with_descriptors_is_not_skipped() {
    let stream = build(PacketType::CallWithFds, &[0; 200]);
    let mut splitter = Splitter::new(LIMIT);
    match splitter.next(&mut &stream[..], 0) {
        Ok(Step::TooLarge(too_large)) => assert!(!too_large.skipped),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn without_descriptors_a_packet_that_promises_some_is_yielded_as_soon_as_it_is_whole() {
    let stream = build(PacketType::CallWithFds, b"\0\0\0\x02x");
    for cut in 0..=stream.len() {
        let mut splitter = Splitter::new(LIMIT).without_fds();
        let (mut head, mut tail) = stream.split_at(cut);
        let step = match splitter.next(&mut head, 0) {
            Ok(Step::NeedInput) => splitter.next(&mut tail, 0),
            step => step,
        };
        match step {
            Ok(Step::Packet(packet)) => assert_eq!((packet.fds, &packet.payload[..]), (2, &b"x"[..]), "cut at {cut}"),
            other => panic!("expected the packet, got {other:?}"),
        }
    }
}

#[test]
fn a_descriptor_must_come_alone_on_a_zero_byte_at_the_end() {
    let packet = build(PacketType::CallWithFds, b"\0\0\0\x01x");
    let header = header(PacketType::CallWithFds);
    for (tail, fds) in [(&[0][..], 0), (&[0], 2), (&[1], 1), (&[0, 0], 1)] {
        let mut splitter = Splitter::new(LIMIT);
        let stream = [&packet[..], tail].concat();
        assert_eq!(
            splitter.next(&mut &stream[..], fds).unwrap_err(),
            SplitError::FdsMissing { header },
            "{tail:?} with {fds} descriptors"
        );
    }
}

#[test]
fn errors_name_value_and_limit() {
    let header = header(PacketType::CallWithFds);
    for (error, text) in [
        (SplitError::TooShort { length: 27 }, "the packet has length 27, and the smallest packet has 28 bytes"),
        (SplitError::TooManyFds { header, count: 33 }, "the packet comes with 33 descriptors, and the limit is 32"),
        (
            SplitError::FdCountMissing { header },
            "a packet with descriptors has at least 32 bytes, and this one ends before their count",
        ),
    ] {
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn room_grows_with_what_has_arrived_and_skips_the_copy() {
    let length = 20 * ROOM_FROM + 5;
    let payload: Vec<u8> = (0..length).map(|n| n as u8).collect();
    let stream = build(PacketType::Call, &payload);
    let mut splitter = Splitter::new(u32::MAX);
    let mut arrived = ROOM_FROM - 1;
    splitter.next(&mut &stream[..arrived], 0).unwrap();
    assert!(splitter.room().is_none(), "too little has arrived");
    splitter.next(&mut &stream[arrived..=arrived], 0).unwrap();
    arrived += 1;
    let mut n_reads = 0;
    while let Some(room) = splitter.room() {
        assert!(room.len() <= arrived && room.len() <= stream.len() - arrived);
        // A read that fills half of the room, as a socket may.
        let n = room.len().div_ceil(2);
        room[..n].copy_from_slice(&stream[arrived..arrived + n]);
        splitter.filled(n);
        arrived += n;
        n_reads += 1;
        assert!(splitter.held() <= 2 * arrived);
        match splitter.next(&mut &[][..], 0).unwrap() {
            Step::NeedInput => assert!(arrived < stream.len()),
            Step::Packet(packet) => {
                assert_eq!(arrived, stream.len());
                assert_eq!(&*packet.payload, &payload[..]);
            }
            Step::TooLarge(_) => panic!("nothing is over the limit"),
        }
    }
    assert_eq!(arrived, stream.len());
    assert!(n_reads < 60, "{n_reads} reads");
    assert_eq!(splitter.held(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn packets_survive_any_cuts(
        stream in packets(),
        cuts in prop::collection::vec(0_usize..4000, 0..40),
    ) {
        model::check(&stream, LIMIT, &cuts);
    }

    #[test]
    fn packets_cut_short_anywhere_yield_what_was_whole(
        stream in packets(),
        end in 0_usize..4000,
        cuts in prop::collection::vec(0_usize..4000, 0..8),
    ) {
        model::check(&stream[..end.min(stream.len())], LIMIT, &cuts);
    }

    #[test]
    fn garbage_never_panics_and_always_ends(
        stream in prop::collection::vec(prop_oneof![4 => Just(0_u8), 1 => any::<u8>(), 1 => 0..40_u8], 0..600),
        cuts in prop::collection::vec(0_usize..600, 0..20),
    ) {
        model::check(&stream, LIMIT, &cuts);
    }

    #[test]
    fn large_packets_survive_any_cuts(
        length in 0_usize..400_000,
        with_fds in any::<bool>(),
        cuts in prop::collection::vec(0_usize..400_000, 0..30),
    ) {
        let payload: Vec<u8> = (0..length).map(|n| (n / 251) as u8).collect();
        let mut stream = keepalive::ping().to_vec();
        if with_fds {
            let payload = [&[0, 0, 0, 2][..], &payload].concat();
            stream.extend(build(PacketType::CallWithFds, &payload));
            stream.extend([0, 0]);
        } else {
            stream.extend(build(PacketType::Reply, &payload));
        }
        stream.extend(keepalive::pong());
        model::check(&stream, 1 << 20, &cuts);
    }
}

fn header(packet_type: PacketType) -> Header {
    Header { program: 0x6563_686f, version: 1, procedure: 1, packet_type, serial: 7, status: Status::Ok }
}

fn build(packet_type: PacketType, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    packet::encode_packet(&header(packet_type), payload, &mut out);
    out
}

/// Packets with `n` descriptors, whose bytes follow behind the packet.
fn build_with_fds(packet_type: PacketType, n: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = build(packet_type, &[&[0, 0, 0, n][..], payload].concat());
    out.extend(std::iter::repeat_n(0, n.into()));
    out
}

fn all_kinds() -> Vec<u8> {
    [
        build(PacketType::Call, b""),
        build(PacketType::CallWithMetadata, b"\x80\x01"),
        build_with_fds(PacketType::CallWithFds, 2, b"two"),
        build(PacketType::Reply, &[9; 130]),
        build_with_fds(PacketType::ReplyWithFds, 0, b""),
        build_with_fds(PacketType::ReplyWithFds, 1, b"one"),
        keepalive::pong().to_vec(),
        build(PacketType::Unknown(99), &[9; 100]),
    ]
    .concat()
}

/// Streams of whole packets, some of them too large, and sometimes a malformed one at the end.
fn packets() -> impl Strategy<Value = Vec<u8>> {
    let payload = || prop::collection::vec(any::<u8>(), 0..90);
    let one = prop_oneof![
        6 => (0..7_i32, payload()).prop_map(|(word, payload)| {
            match PacketType::from_wire(word) {
                with_fds if with_fds.has_fds() => build_with_fds(with_fds, 0, &payload),
                plain => build(plain, &payload),
            }
        }),
        2 => (0..6_u8, payload()).prop_map(|(n, payload)| {
            build_with_fds(PacketType::CallWithFds, n, &payload)
        }),
        1 => (100..300_usize).prop_map(|length| build(PacketType::Call, &vec![0; length])),
        1 => Just(keepalive::ping().to_vec()),
    ];
    let end = prop_oneof![
        4 => Just(Vec::new()),
        1 => (0..28_u32).prop_map(|length| header(PacketType::Call).encode(length).to_vec()),
        1 => (2049..9999_u32).prop_map(|length| header(PacketType::Call).encode(length).to_vec()),
        1 => Just(build_with_fds(PacketType::CallWithFds, 33, b"")),
        1 => Just(build(PacketType::ReplyWithFds, b"")),
        1 => Just([build(PacketType::ReplyWithFds, b"\0\0\0\x01"), vec![3]].concat()),
    ];
    (prop::collection::vec(one, 0..20), end).prop_map(|(packets, end)| {
        let mut stream = packets.concat();
        stream.extend(end);
        stream
    })
}
