//! A second, naive implementation of the packet format, and a driver that holds the splitter against it.
//!
//! The model sees the whole stream at once and copies freely, so it is easy to check by eye.

use postroom_protocol::{HEADER_LEN, Header, PacketType, SplitError, Splitter, Step};

/// What came out of a stream, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    Packet { header: Header, payload: Vec<u8>, fds: u32 },
    TooLarge { header: Header, length: u32, skipped: bool },
    Error(SplitError),
}

/// What must come out of `stream`, and behind which bytes a read ends because they carry a descriptor.
pub fn model(stream: &[u8], limit: u32) -> (Vec<Seen>, Vec<usize>) {
    let (mut seen, mut ends) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Some(word) = stream[at..].first_chunk::<4>() {
        let length = u32::from_be_bytes(*word);
        if length < 28 {
            seen.push(Seen::Error(SplitError::TooShort { length }));
            break;
        }
        let Some(head) = stream[at..].first_chunk::<HEADER_LEN>() else {
            break;
        };
        let (_, header) = Header::decode(head);
        if length > limit {
            let with_fds = matches!(header.packet_type, PacketType::CallWithFds | PacketType::ReplyWithFds);
            let skipped = u64::from(length) <= 16 * u64::from(limit) && !with_fds;
            seen.push(Seen::TooLarge { header, length, skipped });
            if !skipped {
                break;
            }
            at = stream.len().min(at + length as usize);
            continue;
        }
        let mut fds = 0;
        let mut start = HEADER_LEN;
        if let PacketType::CallWithFds | PacketType::ReplyWithFds = header.packet_type {
            if length < 32 {
                seen.push(Seen::Error(SplitError::FdCountMissing { header }));
                break;
            }
            let Some(word) = stream[at + 28..].first_chunk::<4>() else {
                break;
            };
            fds = u32::from_be_bytes(*word);
            start = 32;
            if fds > 32 {
                seen.push(Seen::Error(SplitError::TooManyFds { header, count: fds }));
                break;
            }
        }
        let end = at + length as usize;
        let Some(payload) = stream.get(at + start..end) else {
            break;
        };
        let carriers: Vec<u8> = stream[end..].iter().copied().take(fds as usize).collect();
        ends.extend((0..carriers.len()).map(|n| end + n + 1));
        if carriers.iter().any(|byte| *byte != 0) {
            seen.push(Seen::Error(SplitError::FdsMissing { header }));
            break;
        }
        if carriers.len() < fds as usize {
            break;
        }
        seen.push(Seen::Packet { header, payload: payload.to_vec(), fds });
        at = end + fds as usize;
    }
    (seen, ends)
}

/// Feeds `stream` to a splitter, cut at `cuts` and behind each byte with a descriptor, and checks on
/// the way what the splitter holds. Of every `room_every` portions, one goes straight into the packet
/// where the splitter lends room; 0 is never.
pub fn drive(stream: &[u8], limit: u32, cuts: &[usize], fd_ends: &[usize], room_every: usize) -> Vec<Seen> {
    let mut ends: Vec<usize> = cuts.iter().chain(fd_ends).copied().collect();
    ends.push(stream.len());
    ends.retain(|end| *end <= stream.len());
    ends.sort_unstable();
    ends.dedup();

    let mut splitter = Splitter::new(limit);
    let mut seen = Vec::new();
    let (mut start, mut received) = (0, 0);
    for (n_portions, end) in ends.into_iter().enumerate() {
        let mut input = &stream[start..end];
        let fds = usize::from(fd_ends.contains(&end));
        received += input.len();
        start = end;
        if room_every > 0 && n_portions.is_multiple_of(room_every) {
            while let Some(room) = splitter.room() {
                let n = room.len().min(input.len());
                if n == 0 {
                    break;
                }
                room[..n].copy_from_slice(&input[..n]);
                input = &input[n..];
                splitter.filled(n);
                check_held(&splitter, received);
                if !step(&mut splitter, &mut &[][..], 0, &mut seen) {
                    break;
                }
            }
        }
        while step(&mut splitter, &mut input, fds, &mut seen) {
            check_held(&splitter, received);
        }
        check_held(&splitter, received);
        if let Some(Seen::Error(_) | Seen::TooLarge { skipped: false, .. }) = seen.last() {
            assert!(!splitter.is_mid_packet());
            let again = splitter.next(&mut &stream[..], 0);
            assert!(matches!(again, Err(SplitError::Finished)));
            return seen;
        }
        assert!(input.is_empty(), "input is left over without an error");
        if !splitter.is_mid_packet() {
            received = 0;
        }
    }
    seen
}

/// Asserts that `stream` gives the same however it is cut.
pub fn check(stream: &[u8], limit: u32, cuts: &[usize]) {
    let (expected, fd_ends) = model(stream, limit);
    for room_every in [0, 1, 2] {
        let seen = drive(stream, limit, cuts, &fd_ends, room_every);
        assert_eq!(seen, expected, "cut at {cuts:?}, room every {room_every}");
    }
}

/// One step; whether another one may report something.
fn step(splitter: &mut Splitter, input: &mut &[u8], fds: usize, seen: &mut Vec<Seen>) -> bool {
    match splitter.next(input, fds) {
        Ok(Step::NeedInput) => return false,
        Ok(Step::Packet(packet)) => {
            seen.push(Seen::Packet { header: packet.header, payload: packet.payload.to_vec(), fds: packet.fds })
        }
        Ok(Step::TooLarge(too_large)) => {
            seen.push(Seen::TooLarge {
                header: too_large.header,
                length: too_large.length,
                skipped: too_large.skipped,
            });
            return too_large.skipped;
        }
        Err(error) => {
            seen.push(Seen::Error(error));
            return false;
        }
    }
    true
}

fn check_held(splitter: &Splitter, received: usize) {
    if splitter.is_mid_packet() {
        assert!(splitter.held() <= 2 * received + 64, "holds too much");
    } else {
        assert_eq!(splitter.held(), 0, "holds memory between packets");
    }
}
