//! Holds MessagePack-RPC against the golden vectors in `vectors/rpc.txt`, both ways.

use std::collections::BTreeMap;

use postroom_protocol::limits::DEFAULT_MAX_PACKET;
use postroom_protocol::rpc::{Message, MessageErrorKind, Method, ScanError, Scanner, Step, arguments, encode};
use postroom_protocol::{Error, codec};
use rmpv::Value;
use serde_json::Value as Json;

type Vector = BTreeMap<String, String>;

#[test]
fn vectors_decode_to_their_meaning() {
    for vector in vectors() {
        let name = &vector["name"];
        let bytes = hex(&vector["hex"]);
        let limit = vector.get("limit").map_or(DEFAULT_MAX_PACKET, |limit| limit.parse().unwrap());
        let mut scanner = Scanner::new(limit);
        let mut input = &bytes[..];
        let step = scanner.next(&mut input);
        let msgid = vector.get("msgid").map(|msgid| msgid.parse::<u32>().unwrap());
        match (vector["result"].as_str(), step) {
            ("request" | "response" | "notification" | "malformed", Ok(Step::Message(message))) => {
                assert!(input.is_empty(), "{name}");
                assert_eq!(*message, bytes, "{name}");
                check_message(&vector, Message::parse(&message), msgid);
            }
            (result @ ("too_large" | "refused"), Ok(Step::TooLarge(too_large))) => {
                assert_eq!(too_large.skipped, result == "too_large", "{name}");
                assert_eq!(too_large.head.answerable(), msgid, "{name}");
                assert_eq!(too_large.length.to_string(), vector["at_least"], "{name}");
            }
            ("broken", Err(error)) => {
                let kind = match error {
                    ScanError::NotAMessage { .. } => "not_a_message",
                    ScanError::Reserved { .. } => "reserved",
                    ScanError::TooDeep { .. } => "too_deep",
                    ScanError::TooLong { .. } => "too_long",
                    ScanError::Finished => "finished",
                };
                assert_eq!(kind, vector["error"], "{name}");
                assert_eq!(error.msgid(), msgid, "{name}");
            }
            (result, step) => panic!("{name}: expected {result}, got {step:?}"),
        }
    }
}

fn check_message(vector: &Vector, message: Result<Message<'_>, postroom_protocol::rpc::MessageError>, id: Option<u32>) {
    let name = &vector["name"];
    match (vector["result"].as_str(), message) {
        ("request", Ok(Message::Request { msgid, method, params })) => {
            assert_eq!(Some(msgid), id, "{name}");
            check_call(vector, method, params);
            match Method::parse(method) {
                Ok(parsed) => {
                    assert_eq!(parsed.program, vector["program"], "{name}");
                    assert_eq!(
                        parsed.version.map(|version| version.to_string()),
                        vector.get("version").cloned(),
                        "{name}"
                    );
                    assert_eq!(parsed.procedure, vector["procedure"], "{name}");
                    assert_eq!(parsed.to_string(), method, "{name}");
                }
                Err(error) => assert_eq!(error.to_string(), vector["method_error"], "{name}"),
            }
            match arguments(params) {
                Ok(arguments) => assert_eq!(codec::decode(arguments), Ok(value_of(&vector["arguments"])), "{name}"),
                Err(error) => assert_eq!(error.to_string(), vector["params_error"], "{name}"),
            }
        }
        ("response", Ok(Message::Response { msgid, outcome })) => {
            assert_eq!(Some(msgid), id, "{name}");
            let (key, bytes) = match outcome {
                Ok(result) => ("value", result),
                Err(error) => ("error", error),
            };
            assert_eq!(codec::decode(bytes), Ok(value_of(&vector[key])), "{name}");
        }
        ("notification", Ok(Message::Notification { method, params })) => check_call(vector, method, params),
        ("malformed", Err(error)) => {
            let kind = match error.kind {
                MessageErrorKind::NotAMessage => "not_a_message",
                MessageErrorKind::UnknownType => "unknown_type",
                MessageErrorKind::WrongLength { .. } => "wrong_length",
                MessageErrorKind::BadId => "bad_id",
                MessageErrorKind::BadMethod => "bad_method",
                MessageErrorKind::Truncated => "truncated",
                MessageErrorKind::Malformed(_) => "malformed",
            };
            assert_eq!(kind, vector["error"], "{name}");
            assert_eq!(error.head.answerable(), id, "{name}");
        }
        (result, message) => panic!("{name}: expected {result}, got {message:?}"),
    }
}

fn check_call(vector: &Vector, method: &str, params: &[u8]) {
    assert_eq!(method, vector["method"], "{}", vector["name"]);
    assert_eq!(codec::decode(params), Ok(value_of(&vector["params"])), "{}", vector["name"]);
}

#[test]
fn meanings_encode_to_their_vectors() {
    let packed = |json: &str| {
        let mut out = Vec::new();
        codec::encode(&value_of(json), &mut out).unwrap();
        out
    };
    let mut n_encoded = 0;
    for vector in vectors() {
        if vector.contains_key("wasteful") {
            continue;
        }
        let msgid = vector.get("msgid").map_or(0, |msgid| msgid.parse().unwrap());
        let mut out = b"before".to_vec();
        match vector["result"].as_str() {
            "request" => encode::request(msgid, &vector["method"], &packed(&vector["params"]), &mut out),
            "notification" => encode::notification(&vector["method"], &packed(&vector["params"]), &mut out),
            "response" if vector["error"] == "null" => {
                encode::response(msgid, &packed(&vector["value"]), &mut out);
                let mut in_place = b"before".to_vec();
                let start = encode::begin_response(msgid, &mut in_place);
                codec::encode(&value_of(&vector["value"]), &mut in_place).unwrap();
                encode::finish_response(start, &mut in_place);
                assert_eq!(in_place, out);
            }
            "response" => {
                let error = Error::decode(&packed(&vector["error"])).unwrap();
                encode::error(msgid, &error, &mut out);
            }
            _ => continue,
        }
        assert_eq!(out, [b"before", &hex(&vector["hex"])[..]].concat(), "{}", vector["name"]);
        n_encoded += 1;
    }
    assert!(n_encoded > 25);
}

#[test]
fn the_crate_makes_the_same_notifications() {
    let vectors = vectors();
    let bytes = |name: &str| hex(&vectors.iter().find(|vector| vector["name"] == name).unwrap()["hex"]);
    let mut out = Vec::new();
    encode::close(&Error::shutting_down(), &mut out);
    assert_eq!(out, bytes("close"));
    let mut out = Vec::new();
    encode::event("store", "changed", b"\x81\xa3key\xa1a", 0, &mut out);
    assert_eq!(out, bytes("event"));
    let mut out = Vec::new();
    encode::event("store", "changed", b"", 70_000, &mut out);
    assert_eq!(out, bytes("event-lost"));
}

fn vectors() -> Vec<Vector> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/rpc.txt");
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

fn value_of(json: &str) -> Value {
    convert(&serde_json::from_str(json).unwrap())
}

fn convert(json: &Json) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(value) => Value::Boolean(*value),
        Json::Number(number) => number.as_u64().expect("the vectors have no other numbers").into(),
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
