//! A second, naive implementation of how MessagePack-RPC is scanned, and a driver that holds the scanner against it.
//!
//! The model sees the whole stream at once and copies freely, so it is easy to check by eye.

use postroom_protocol::rpc::{Head, MAX_MESSAGE_DEPTH, MessageType, ScanError, Scanner, Step, TooLarge};

/// What came out of a stream, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    Message(Vec<u8>),
    TooLarge(TooLarge),
    Error(ScanError),
}

/// What must come out of `stream`.
pub fn model(stream: &[u8], limit: u32) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut at = 0;
    while at < stream.len() {
        match one(&stream[at..], limit, &mut seen) {
            Some(length) => at += length,
            None => break,
        }
    }
    seen
}

/// Sees what becomes of the message at the front of `stream`; its length, if it is whole and the stream goes on.
fn one(stream: &[u8], max_packet: u32, seen: &mut Vec<Seen>) -> Option<usize> {
    if !matches!(stream[0], 0x93 | 0x94) {
        seen.push(Seen::Error(ScanError::NotAMessage { byte: stream[0] }));
        return None;
    }
    let head = head(stream);
    let mut is_refused = false;
    // True if the message has at least `length` bytes and must not.
    let mut is_over = |length: u64, seen: &mut Vec<Seen>| {
        let far = length > 16 * u64::from(max_packet);
        if is_refused && far {
            seen.push(Seen::Error(ScanError::TooLong { head, length, limit: max_packet }));
        } else if !is_refused && length > max_packet.into() {
            seen.push(Seen::TooLarge(TooLarge { head, length, limit: max_packet, skipped: !far }));
            is_refused = true;
        }
        far
    };
    // How many values each open level lacks; the first is the message itself.
    let mut left = vec![1_u64];
    let mut at = 0;
    loop {
        while left.last() == Some(&0) {
            left.pop();
        }
        let Some(last) = left.last_mut() else {
            break;
        };
        *last -= 1;
        let marker = *stream.get(at)?;
        if marker == 0xc1 {
            seen.push(Seen::Error(ScanError::Reserved { head, offset: at as u64 }));
            return None;
        }
        let n_length = match marker {
            0xc4 | 0xc7 | 0xd9 => 1,
            0xc5 | 0xc8 | 0xda | 0xdc | 0xde => 2,
            0xc6 | 0xc9 | 0xdb | 0xdd | 0xdf => 4,
            _ => 0,
        };
        at += 1 + n_length;
        let pending: u64 = left.iter().sum();
        if n_length > 0 && is_over(at as u64 + pending, seen) {
            return None;
        }
        let length = stream.get(at - n_length..at)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        let (body, children) = match marker {
            0x80..=0x8f => (0, Some(2 * u64::from(marker & 0x0f))),
            0x90..=0x9f => (0, Some(u64::from(marker & 0x0f))),
            0xa0..=0xbf => (u64::from(marker & 0x1f), None),
            0xc4..=0xc6 | 0xd9..=0xdb => (length, None),
            0xc7..=0xc9 => (1 + length, None),
            0xcc | 0xd0 => (1, None),
            0xcd | 0xd1 => (2, None),
            0xca | 0xce | 0xd2 => (4, None),
            0xcb | 0xcf | 0xd3 => (8, None),
            0xd4 => (2, None),
            0xd5 => (3, None),
            0xd6 => (5, None),
            0xd7 => (9, None),
            0xd8 => (17, None),
            0xdc | 0xdd => (0, Some(length)),
            0xde | 0xdf => (0, Some(2 * length)),
            _ => (0, None),
        };
        // All levels but the message itself are arrays and maps.
        let depth = left.len() - 1;
        if children.is_some() && depth == MAX_MESSAGE_DEPTH {
            seen.push(Seen::Error(ScanError::TooDeep { head, offset: at as u64 - 1 }));
            return None;
        }
        let pending = pending + children.unwrap_or(0);
        if is_over(at as u64 + body + pending, seen) {
            return None;
        }
        left.extend(children);
        at += usize::try_from(body).ok()?;
        if at > stream.len() {
            return None;
        }
    }
    if !is_refused {
        seen.push(Seen::Message(stream[..at].to_vec()));
    }
    Some(at)
}

fn head(stream: &[u8]) -> Head {
    let mut rest = &stream[1..];
    let mut number = || rmpv::decode::read_value(&mut rest).ok().and_then(|value| value.as_u64());
    let message_type = match number() {
        Some(0) => Some(MessageType::Request),
        Some(1) => Some(MessageType::Response),
        Some(2) => Some(MessageType::Notification),
        _ => None,
    };
    let has_id = stream[0] == 0x94 && message_type.is_some_and(|it| it != MessageType::Notification);
    Head { message_type, msgid: if has_id { number().and_then(|id| u32::try_from(id).ok()) } else { None } }
}

/// Feeds `stream` to a scanner, cut at `cuts`, and checks on the way what the scanner holds.
/// Of every `room_every` portions, one goes straight into the message where the scanner lends room; 0 is never.
pub fn drive(stream: &[u8], limit: u32, cuts: &[usize], room_every: usize) -> Vec<Seen> {
    let mut ends = cuts.to_vec();
    ends.push(stream.len());
    ends.retain(|end| *end <= stream.len());
    ends.sort_unstable();
    ends.dedup();

    let mut scanner = Scanner::new(limit);
    let mut seen = Vec::new();
    let (mut start, mut received) = (0, 0);
    for (n_portions, end) in ends.into_iter().enumerate() {
        let mut input = &stream[start..end];
        received += input.len();
        start = end;
        if room_every > 0 && n_portions.is_multiple_of(room_every) {
            while let Some(room) = scanner.room() {
                let n = room.len().min(input.len());
                if n == 0 {
                    break;
                }
                room[..n].copy_from_slice(&input[..n]);
                input = &input[n..];
                scanner.filled(n);
                check_held(&scanner, received);
                step(&mut scanner, &mut &[][..], &mut seen);
            }
        }
        while step(&mut scanner, &mut input, &mut seen) {
            check_held(&scanner, received);
        }
        check_held(&scanner, received);
        if let Some(Seen::Error(_) | Seen::TooLarge(TooLarge { skipped: false, .. })) = seen.last() {
            assert!(!scanner.is_mid_packet());
            assert!(matches!(scanner.next(&mut &stream[..]), Err(ScanError::Finished)));
            return seen;
        }
        assert!(input.is_empty(), "input is left over without an error");
        if !scanner.is_mid_packet() {
            received = 0;
        }
    }
    seen
}

/// Asserts that `stream` gives the same however it is cut.
pub fn check(stream: &[u8], limit: u32, cuts: &[usize]) {
    let expected = model(stream, limit);
    for room_every in [0, 1, 2] {
        let seen = drive(stream, limit, cuts, room_every);
        assert_eq!(seen, expected, "cut at {cuts:?}, room every {room_every}");
    }
}

/// One step; whether another one may report something.
fn step(scanner: &mut Scanner, input: &mut &[u8], seen: &mut Vec<Seen>) -> bool {
    match scanner.next(input) {
        Ok(Step::NeedInput) => return false,
        Ok(Step::Message(message)) => seen.push(Seen::Message(message.to_vec())),
        Ok(Step::TooLarge(too_large)) => {
            seen.push(Seen::TooLarge(too_large));
            return too_large.skipped;
        }
        Err(error) => {
            seen.push(Seen::Error(error));
            return false;
        }
    }
    true
}

fn check_held(scanner: &Scanner, received: usize) {
    if scanner.is_mid_packet() {
        assert!(scanner.held() <= 2 * received + 64, "holds too much");
    } else {
        assert_eq!(scanner.held(), 0, "holds memory between messages");
    }
}
