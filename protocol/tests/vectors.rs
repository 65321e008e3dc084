//! Holds the crate against the golden vectors in `vectors/packets.txt`, both ways.

use std::collections::BTreeMap;

use postroom_protocol::limits::DEFAULT_MAX_PACKET;
use postroom_protocol::{
    Error, Header, Metadata, PacketType, SplitError, Splitter, Status, Step, codec, encode_announcement,
    encode_reply_error, keepalive, metadata, packet, split_metadata,
};
use rmpv::Value;
use serde_json::Value as Json;

type Vector = BTreeMap<String, String>;

#[test]
fn vectors_decode_to_their_meaning() {
    for vector in vectors() {
        let name = &vector["name"];
        let bytes = hex(&vector["hex"]);
        match vector["result"].as_str() {
            "packet" => check_packet(&vector, &bytes),
            "error" => {
                let error = split(&vector, &bytes).unwrap_err();
                let kind = match error {
                    SplitError::TooShort { .. } => "too_short",
                    SplitError::TooManyFds { .. } => "too_many_fds",
                    SplitError::FdsMissing { .. } => "fds_missing",
                    SplitError::FdCountMissing { .. } => "fd_count_missing",
                    SplitError::Finished => "finished",
                };
                assert_eq!(kind, vector["error"], "{name}");
            }
            result => match split(&vector, &bytes) {
                Ok(Seen::TooLarge(too_large)) => {
                    assert_eq!(too_large.header, header(&vector), "{name}");
                    assert_eq!(too_large.length, number::<u32>(&vector, "length"), "{name}");
                    assert_eq!(too_large.skipped, result == "too_large", "{name}");
                }
                other => panic!("{name}: expected a refusal, got {other:?}"),
            },
        }
    }
}

#[test]
fn meanings_encode_to_their_vectors() {
    for vector in vectors() {
        if vector["result"] != "packet" || vector.contains_key("payload_error") {
            continue;
        }
        let mut out = Vec::new();
        let start = packet::begin(&header(&vector), &mut out);
        let n_fds: u32 = number(&vector, "fds");
        if vector.contains_key("fds") {
            out.extend(n_fds.to_be_bytes());
        }
        if let Some(map) = vector.get("metadata") {
            metadata::encode(&metadata_of(map), &mut out);
        }
        if let Some(payload) = vector.get("payload") {
            codec::encode(&value_of(payload), &mut out).unwrap();
        }
        packet::finish(start, &mut out);
        out.extend(std::iter::repeat_n(0, n_fds as usize));
        assert_eq!(out, hex(&vector["hex"]), "{}", vector["name"]);
    }
}

#[test]
fn the_crate_makes_the_same_fixed_packets() {
    let bytes = |name: &str| hex(&vector(name)["hex"]);
    assert_eq!(keepalive::ping()[..], bytes("keepalive-ping"));
    assert_eq!(keepalive::pong()[..], bytes("keepalive-pong"));

    let mut out = Vec::new();
    encode_announcement(&Error::shutting_down(), &mut out);
    assert_eq!(out, bytes("announcement"));

    for (name, error) in [
        ("error-reply", Error::unknown_procedure("echo", 99)),
        ("error-reply-limit", Error::overloaded("max_pending_calls", 10_000_u32, 250)),
        ("error-reply-incident", Error::internal("5f3a")),
    ] {
        let call = Header { packet_type: PacketType::Call, status: Status::Ok, ..header(&vector(name)) };
        let mut out = Vec::new();
        encode_reply_error(&call, &error, &mut out);
        assert_eq!(out, bytes(name), "{name}");
        assert_eq!(Error::decode(&out[28..]), Ok(error), "{name}");
    }
}

/// The first tokens of each line are the bytes; what is no hex is their explanation.
#[test]
fn the_examples_of_the_document_are_vectors() {
    let document = include_str!("../../docs/protocol.md");
    let is_hex = |token: &&str| token.len().is_multiple_of(2) && token.bytes().all(|byte| byte.is_ascii_hexdigit());
    let examples = document
        .split("```")
        .skip(1)
        .step_by(2)
        .map(|block| block.lines().flat_map(|line| line.split_whitespace().take_while(is_hex)).collect::<String>());
    let known: Vec<String> = vectors().iter().map(|vector| vector["hex"].clone()).collect();
    let examples: Vec<String> = examples.collect();
    assert_eq!(examples.len(), 3);
    for example in examples {
        assert!(known.contains(&example), "{example} is no vector");
    }
}

fn check_packet(vector: &Vector, bytes: &[u8]) {
    let name = &vector["name"];
    let Ok(Seen::Packet(seen, payload, n_fds)) = split(vector, bytes) else {
        panic!("{name}: expected a packet");
    };
    assert_eq!(seen, header(vector), "{name}");
    assert_eq!(n_fds, number::<u32>(vector, "fds"), "{name}");
    let mut payload = &payload[..];
    if let Some(map) = vector.get("metadata") {
        let (metadata, length) = split_metadata(payload).unwrap();
        assert_eq!(metadata, metadata_of(map), "{name}");
        payload = &payload[length..];
    }
    match (vector.get("payload"), vector.get("payload_error")) {
        (_, Some(message)) => {
            let error = codec::decode::<Value>(payload).unwrap_err();
            assert_eq!(error.to_string(), *message, "{name}");
        }
        (Some(json), None) => {
            assert_eq!(codec::decode(payload), Ok(value_of(json)), "{name}");
        }
        (None, None) => assert!(payload.is_empty(), "{name}"),
    }
}

#[derive(Debug)]
enum Seen {
    Packet(Header, Vec<u8>, u32),
    TooLarge(postroom_protocol::TooLarge),
}

/// The one thing that `bytes` hold; the bytes behind `length` carry a descriptor each.
fn split(vector: &Vector, bytes: &[u8]) -> Result<Seen, SplitError> {
    let limit = vector.get("limit").map_or(DEFAULT_MAX_PACKET, |limit| limit.parse().unwrap());
    let length: usize = number(vector, "length");
    let mut splitter = Splitter::new(limit);
    let (whole, carriers) = bytes.split_at(length.min(bytes.len()));
    let mut inputs = vec![(whole, 0)];
    inputs.extend(carriers.chunks(1).map(|carrier| (carrier, 1)));
    let mut seen = None;
    for (mut input, fds) in inputs {
        loop {
            let next = match splitter.next(&mut input, fds)? {
                Step::NeedInput => break,
                Step::Packet(packet) => Seen::Packet(packet.header, packet.payload.to_vec(), packet.fds),
                Step::TooLarge(too_large) => Seen::TooLarge(too_large),
            };
            assert!(seen.is_none(), "a vector holds one packet");
            let refused = matches!(&next, Seen::TooLarge(too_large) if !too_large.skipped);
            seen = Some(next);
            if refused {
                break;
            }
        }
    }
    assert!(!splitter.is_mid_packet());
    Ok(seen.expect("a vector holds something"))
}

fn vectors() -> Vec<Vector> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/packets.txt");
    let text = std::fs::read_to_string(path).unwrap();
    let vectors: Vec<Vector> = text
        .split("\n\n")
        .map(|block| {
            block
                .lines()
                .filter(|line| !line.starts_with('#'))
                .map(|line| line.split_once(": ").expect("a line is `key: value`"))
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect()
        })
        .filter(|vector: &Vector| !vector.is_empty())
        .collect();
    assert!(vectors.len() >= 40);
    vectors
}

fn vector(name: &str) -> Vector {
    vectors().into_iter().find(|vector| vector["name"] == name).unwrap()
}

fn header(vector: &Vector) -> Header {
    let program = vector["program"].strip_prefix("0x").unwrap();
    Header {
        program: u32::from_str_radix(program, 16).unwrap(),
        version: number(vector, "version"),
        procedure: number(vector, "procedure"),
        packet_type: match vector["type"].as_str() {
            "call" => PacketType::Call,
            "reply" => PacketType::Reply,
            "event" => PacketType::Event,
            "stream" => PacketType::Stream,
            "call_with_fds" => PacketType::CallWithFds,
            "reply_with_fds" => PacketType::ReplyWithFds,
            "stream_hole" => PacketType::StreamHole,
            "call_with_metadata" => PacketType::CallWithMetadata,
            "cancel" => PacketType::Cancel,
            "stream_credit" => PacketType::StreamCredit,
            other => PacketType::Unknown(other.parse().unwrap()),
        },
        serial: number(vector, "serial"),
        status: match vector["status"].as_str() {
            "ok" => Status::Ok,
            "error" => Status::Error,
            "continue" => Status::Continue,
            other => Status::Unknown(other.parse().unwrap()),
        },
    }
}

/// The number under `key`, or 0 if the vector has none.
fn number<T: std::str::FromStr<Err: std::fmt::Debug> + Default>(vector: &Vector, key: &str) -> T {
    vector.get(key).map_or_else(T::default, |text| text.parse().unwrap())
}

fn metadata_of(json: &str) -> Metadata {
    let value = value_of(json);
    let get = |key: &str| {
        let entries = value.as_map().unwrap().iter();
        entries.filter(|(name, _)| name.as_str() == Some(key)).map(|(_, value)| value.clone()).next()
    };
    Metadata {
        deadline_ms: get("deadline_ms").map(|value| value.as_u64().unwrap() as u32),
        trace: get("trace").map(|value| value.as_str().unwrap().to_owned()),
        key: get("key").map(|value| value.as_slice().unwrap().to_owned()),
    }
}

fn value_of(json: &str) -> Value {
    convert(&serde_json::from_str(json).unwrap())
}

fn convert(json: &Json) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(value) => Value::Boolean(*value),
        Json::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(value), _) => value.into(),
            (None, Some(value)) => value.into(),
            (None, None) => number.as_f64().unwrap().into(),
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(elements) => Value::Array(elements.iter().map(convert).collect()),
        Json::Object(entries) => match entries.get("$bin") {
            Some(bytes) => Value::Binary(hex(bytes.as_str().unwrap())),
            None => Value::Map(entries.iter().map(|(key, value)| (key.as_str().into(), convert(value))).collect()),
        },
    }
}

fn hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2));
    (0..text.len() / 2).map(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap()).collect()
}
