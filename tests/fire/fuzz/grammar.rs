//! The grammar: streams that look like conversations, with something wrong here and there.

use postroom_protocol::{Header, Metadata, PacketType, Status, keepalive, metadata, rpc};
use rmpv::Value;

use super::target::{PROCEDURES, TARGET};
use super::{Case, MAX_PACKET};
use crate::chance::Chance;
use crate::support::{DIRECTORY, encode, packet};

/// A case of its own for each number.
pub fn case(chance: &mut Chance) -> Case {
    let mut stream = Vec::new();
    let element = if chance.one_in(4) { message } else { element };
    for _ in 0..chance.within(1..7) {
        element(chance, &mut stream);
    }
    if chance.one_in(3) {
        for _ in 0..chance.within(1..4) {
            mutate(chance, &mut stream);
        }
    }
    let portions = match chance.within(0..4) {
        0 => Vec::new(),
        // A write for each byte takes its time.
        1 if stream.len() < 1000 => vec![1],
        2 => vec![*chance.pick(&[3, 27, 28, 29, 64, 1000])],
        _ => (0..chance.within(2..6)).map(|_| 1 + chance.below(200)).collect(),
    };
    Case { stream, portions, withholds_fds: chance.one_in(20), half_closes: true }
}

/// One packet or what might be taken for one.
fn element(chance: &mut Chance, out: &mut Vec<u8>) {
    match chance.within(0..20) {
        0..5 => out.extend(packet(call(chance), &arguments(chance))),
        5..8 => out.extend(with_metadata(chance)),
        8..10 => out.extend(packet(odd(chance), &arguments(chance))),
        10 => {
            let header = odd(chance);
            out.extend(header.encode(length(chance)));
            out.extend(arguments(chance));
        }
        11 => out.extend(match chance.within(0..2) {
            0 => keepalive::ping(),
            _ => keepalive::pong(),
        }),
        12 => {
            let header = call(chance);
            out.extend(packet(header, &arguments(chance)));
            out.extend(packet(Header { packet_type: PacketType::Cancel, ..header }, &[]));
        }
        13..15 => out.extend(with_fds(chance)),
        15 => {
            // Over the limit, with the body that belongs to it, or some of it.
            let more = *chance.pick(&[1, 100, 100, 3 * MAX_PACKET as usize]);
            let body = MAX_PACKET as usize - 28 + 1 + chance.below(more);
            let sent = if chance.one_in(2) { body } else { chance.below(body) };
            out.extend(call(chance).encode(28 + body as u32));
            out.extend(vec![0; sent]);
        }
        16 => out.extend(packet(
            Header { program: DIRECTORY, procedure: 1 + chance.below(5) as i32, ..call(chance) },
            &arguments(chance),
        )),
        17 => {
            let noise = chance.below(100);
            out.extend(chance.bytes(noise));
        }
        _ => {
            // The same call again and again.
            let bytes = packet(call(chance), &arguments(chance));
            (0..chance.within(1..20)).for_each(|_| out.extend_from_slice(&bytes));
        }
    }
}

/// One message of MessagePack-RPC or what might be taken for one.
fn message(chance: &mut Chance, out: &mut Vec<u8>) {
    let msgid = *chance.pick(&[0, 1, 127, 128, 77, u32::MAX]);
    let params = match chance.within(0..4) {
        0 => arguments(chance),
        1 => [&[0x91][..], &arguments(chance)].concat(),
        2 => encode(&shapes(chance)),
        _ => encode(&value(chance, 0)),
    };
    match chance.within(0..14) {
        0..5 => rpc::encode::request(msgid, method(chance), &params, out),
        5..7 => rpc::encode::notification(method(chance), &params, out),
        7 => rpc::encode::response(msgid, &params, out),
        8 => {
            // Any array of three or four.
            let length = 3 + chance.below(2);
            let parts = (0..length).map(|place| match chance.one_in(2) {
                true if place == 0 => Value::from(chance.below(4)),
                true if place == 1 => Value::from(msgid),
                true if place == 2 => Value::from("fuzz.mirror"),
                _ => value(chance, 1),
            });
            out.extend(encode(&Value::Array(parts.collect())));
        }
        9 => {
            // Over the limit, with the body that belongs to it, or some of it.
            let more = *chance.pick(&[1, 100, 100, 3 * MAX_PACKET as usize, 17 * MAX_PACKET as usize]);
            let body = MAX_PACKET as usize - 30 + chance.below(more);
            let start = out.len();
            let params = encode(&Value::Array(vec![Value::Binary(vec![0; body])]));
            match chance.one_in(3) {
                true => rpc::encode::notification(method(chance), &params, out),
                false => rpc::encode::request(msgid, method(chance), &params, out),
            }
            if chance.one_in(3) {
                out.truncate(start + 1 + chance.below(out.len() - start - 1));
            }
        }
        10 => {
            out.extend([0x94, 0, 7, 0xa1, b'x']);
            out.extend(vec![0x91; *chance.pick(&[1, 62, 63, 64, 65, 66, 1000])]);
            out.push(0x90);
        }
        11 => {
            let noise = chance.below(40);
            out.extend(chance.bytes(noise));
        }
        _ => {
            // The same again and again.
            let mut bytes = Vec::new();
            rpc::encode::request(msgid, method(chance), &params, &mut bytes);
            (0..chance.within(1..20)).for_each(|_| out.extend_from_slice(&bytes));
        }
    }
}

fn method(chance: &mut Chance) -> &'static str {
    METHODS[chance.below(METHODS.len())]
}

/// Methods that there are, and some that there are not.
const METHODS: [&str; 16] = [
    "fuzz.parcel",
    "fuzz.mirror",
    "fuzz.shapes",
    "fuzz.tree",
    "fuzz/1.nothing",
    "fuzz.priority",
    "fuzz.to_end",
    "fuzz.text",
    "fuzz.list",
    "fuzz/1.quick",
    "directory.hello",
    "directory.describe",
    "fuzz.nothing_such",
    "fuzz/2.mirror",
    "nobody.home",
    "",
];

/// The header of a call that exists.
fn call(chance: &mut Chance) -> Header {
    let procedure = 1 + chance.below(PROCEDURES as usize) as i32;
    let serial = *chance.pick(&[0, 1, 2, 77, u32::MAX]);
    Header { program: TARGET, version: 1, procedure, packet_type: PacketType::Call, serial, status: Status::Ok }
}

/// The same with odd numbers in some places.
fn odd(chance: &mut Chance) -> Header {
    let mut header = call(chance);
    for _ in 0..chance.within(1..3) {
        let word = *chance.pick(&[0, 1, 2, 4, 5, 16, 17, 18, 28, u32::MAX, 1 << 31, 0x7fff_ffff, 0x6b65_6570, TARGET]);
        match chance.within(0..6) {
            0 => header.program = word,
            1 => header.version = word,
            2 => header.procedure = word as i32,
            3 => header.serial = word,
            4 => header.status = Status::from_wire(chance.below(4) as i32 - 1),
            _ => header.packet_type = PacketType::from_wire(word as i32),
        }
    }
    header
}

/// A length that is not what follows.
fn length(chance: &mut Chance) -> u32 {
    match chance.within(0..4) {
        0 => chance.within(0..100) as u32,
        1 => *chance.pick(&[MAX_PACKET - 1, MAX_PACKET, MAX_PACKET + 1, 16 * MAX_PACKET, 16 * MAX_PACKET + 1]),
        2 => *chance.pick(&[27, 28, 29, 31, 32, 33, u32::MAX, i32::MAX as u32, 1 << 31]),
        _ => chance.next() as u32,
    }
}

fn with_metadata(chance: &mut Chance) -> Vec<u8> {
    let mut payload = Vec::new();
    match chance.within(0..6) {
        0..3 => {
            let about = Metadata {
                deadline_ms: chance.one_in(2).then(|| *chance.pick(&[0, 1, 5, 1000, u32::MAX])),
                trace: chance.one_in(2).then(|| "00-0af7-b7ad-01".repeat(chance.below(3))),
                key: chance.one_in(2).then(|| vec![7; *chance.pick(&[0, 1, 255, 256, 3000])]),
            };
            metadata::encode(&about, &mut payload);
        }
        3 => payload = encode(&value(chance, 0)),
        4 => {
            let known = ["deadline_ms", "trace", "key", "other", ""];
            let entries = (0..chance.within(0..6)).map(|_| (Value::from(*chance.pick(&known)), value(chance, 2)));
            payload = encode(&Value::Map(entries.collect()));
        }
        _ => payload = encode(&Value::Map(vec![("other".into(), Value::Binary(vec![0; 4080 + chance.below(20)]))])),
    }
    payload.extend(arguments(chance));
    packet(Header { packet_type: PacketType::CallWithMetadata, ..call(chance) }, &payload)
}

fn with_fds(chance: &mut Chance) -> Vec<u8> {
    let packet_type = *chance.pick(&[PacketType::CallWithFds, PacketType::CallWithFds, PacketType::ReplyWithFds]);
    let header = Header { packet_type, ..call(chance) };
    let count = *chance.pick(&[0, 0, 1, 1, 2, 3, 32, 33, u32::MAX]);
    let mut bytes = packet(header, &[&count.to_be_bytes()[..], &arguments(chance)].concat());
    let carriers = if chance.one_in(8) { chance.below(4) as u32 } else { count };
    if carriers <= 32 {
        bytes.extend(vec![u8::from(chance.one_in(20)); carriers as usize]);
    }
    bytes
}

/// Arguments of some procedure, not always of the one that is called.
fn arguments(chance: &mut Chance) -> Vec<u8> {
    let parcel = |chance: &mut Chance| {
        let data = Value::Binary(vec![9; *chance.pick(&[0, 1, 255, 256, 2000])]);
        Value::Map(vec![("id".into(), chance.next().into()), ("data".into(), data)])
    };
    match chance.within(0..10) {
        0..3 => encode(&parcel(chance)),
        3 => encode(&shapes(chance)),
        4 => tree(chance),
        5 => Vec::new(),
        6 => encode(&value(chance, 0)),
        7 => lie(chance),
        8 => {
            let mut bytes = if chance.one_in(2) { encode(&parcel(chance)) } else { encode(&shapes(chance)) };
            mutate(chance, &mut bytes);
            bytes
        }
        _ => {
            let noise = chance.below(40);
            chance.bytes(noise)
        }
    }
}

/// Arguments of `shapes`, with values that fit and some that do not.
fn shapes(chance: &mut Chance) -> Value {
    let mut fields: Vec<(Value, Value)> = Vec::new();
    for name in ["small", "float", "letter", "pair", "kind", "table", "list", "four", "unknown"] {
        if chance.one_in(5) {
            continue;
        }
        let good = match name {
            "small" => Value::from(chance.next() as i8),
            "float" => Value::F64(f64::from_bits(chance.next())),
            "letter" => "ß".into(),
            "pair" => Value::Array(vec![7.into(), "seven".into()]),
            "kind" => match chance.within(0..3) {
                0 => "Unit".into(),
                1 => Value::Map(vec![("One".into(), 5.into())]),
                _ => Value::Map(vec![("Named".into(), Value::Map(vec![("inner".into(), 5.into())]))]),
            },
            "table" => Value::Map(vec![("x".into(), 1.into()), ("x".into(), 2.into())]),
            "list" => Value::Array(vec![Value::Nil, true.into()]),
            "four" => Value::Array(vec![1.into(); 4]),
            _ => value(chance, 1),
        };
        let value = if chance.one_in(6) { value(chance, 1) } else { good };
        fields.push((name.into(), value));
    }
    match chance.one_in(4) {
        true => Value::Array(fields.into_iter().map(|(_, value)| value).collect()),
        false => Value::Map(fields),
    }
}

/// Any value.
fn value(chance: &mut Chance, depth: u32) -> Value {
    match chance.within(if depth > 5 { 0..8 } else { 0..10 }) {
        0 => Value::Nil,
        1 => chance.one_in(2).into(),
        2 => Value::from(*chance.pick(&[0, 1, -1, -32, -33, 127, 128, i64::MAX, i64::MIN])),
        3 => chance.next().into(),
        4 => Value::F32(f32::from_bits(chance.next() as u32)),
        5 => "x".repeat(*chance.pick(&[0, 1, 31, 32, 255, 256, 1000])).into(),
        6 => Value::Binary(vec![1; *chance.pick(&[0, 1, 255, 256])]),
        7 => Value::Ext(chance.next() as i8, vec![2; *chance.pick(&[0, 1, 2, 4, 5, 8, 16, 17])]),
        8 => Value::Array((0..chance.within(0..5)).map(|_| value(chance, depth + 1)).collect()),
        _ => {
            Value::Map((0..chance.within(0..5)).map(|_| (value(chance, depth + 1), value(chance, depth + 1))).collect())
        }
    }
}

/// A nested enum, about as deep as is allowed.
fn tree(chance: &mut Chance) -> Vec<u8> {
    let depth = *chance.pick(&[1, 10, 31, 32, 33, 62, 63, 64, 65, 66, 1000]);
    let mut bytes = Vec::new();
    for _ in 0..depth {
        match chance.within(0..3) {
            0 => bytes.push(0x91),
            1 => bytes.extend(b"\x81\xa4Node"),
            _ => bytes.extend(b"\x81\xa5Named\x81\xa5inner"),
        }
    }
    bytes.extend(b"\xa4Leaf");
    bytes
}

/// More is claimed than follows.
fn lie(chance: &mut Chance) -> Vec<u8> {
    let marker =
        *chance.pick(&[0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0x8f, 0x9f]);
    let claim = *chance.pick(&[0xff_u8, 0x7f, 0x01, 0x00]);
    let mut bytes = vec![0x82, 0xa2, b'i', b'd', 0x01, 0xa4, b'd', b'a', b't', b'a', marker];
    bytes.extend(vec![claim; chance.below(6)]);
    if chance.one_in(2) {
        bytes.drain(..10);
    }
    bytes
}

fn mutate(chance: &mut Chance, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let at = chance.below(bytes.len());
    match chance.within(0..6) {
        0 => bytes[at] ^= 1 << chance.within(0..8),
        1 => bytes[at] = *chance.pick(&[0, 1, 0x7f, 0x80, 0xff, 0xc1]),
        2 => bytes.truncate(at),
        3 => drop(bytes.remove(at)),
        4 => bytes.insert(at, chance.next() as u8),
        _ => {
            let end = (at + 1 + chance.below(40)).min(bytes.len());
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
    }
}
