//! What decodes, what does not, and what the client is told about it.

use std::collections::BTreeMap;
use std::fmt::Debug;

use postroom_protocol::codec::{self, MAX_DEPTH};
use proptest::prelude::*;
use rmpv::Value;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Echo {
    id: u64,
    data: ByteBuf,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Nothing {}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Optional {
    n: Option<u64>,
    #[serde(default)]
    name: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    Circle(u32),
    Line(u8, u8),
    Box { width: u16, inner: Vec<Shape> },
}

#[derive(Debug, Deserialize)]
enum Endless {
    #[expect(dead_code, reason = "only decoding is of interest")]
    Again(Box<Endless>),
}

#[test]
fn arguments_come_as_a_map_or_as_an_array() {
    let echo = Echo { id: 7, data: ByteBuf::from([1, 2]) };
    let map = b"\x82\xa2id\x07\xa4data\xc4\x02\x01\x02";
    assert_eq!(encode(&echo), map);
    assert_eq!(codec::decode(map), Ok(echo));
    let decoded: Echo = codec::decode(b"\x92\x07\xc4\x02\x01\x02").unwrap();
    assert_eq!(decoded.data, [1, 2]);
    let unknown_keys = b"\x83\xa1x\x91\x80\xa2id\x07\xa4data\xc4\x00";
    assert_eq!(codec::decode::<Echo>(unknown_keys).unwrap().id, 7);
}

#[derive(Debug, PartialEq, Deserialize)]
struct Named {
    name: String,
    #[serde(alias = "label", default)]
    names: Vec<String>,
    inner: Option<Box<Named>>,
    #[serde(flatten)]
    rest: BTreeMap<String, u8>,
}

#[test]
fn fields_come_in_any_order_and_under_names_of_any_form() {
    let inner = Named { name: "in".into(), names: Vec::new(), inner: None, rest: BTreeMap::new() };
    let rest = BTreeMap::from([("nam".into(), 1), ("namesake".into(), 2)]);
    let names = vec!["a".to_owned()];
    let outer = Named { name: "out".into(), names, inner: Some(Box::new(inner)), rest };
    let [name, names, label] = [&b"\xa4name\xa3out"[..], b"\xa5names\x91\xa1a", b"\xa5label\x91\xa1a"];
    let [inner, nam, namesake] = [&b"\xa5inner\x81\xa4name\xa2in"[..], b"\xa3nam\x01", b"\xa8namesake\x02"];
    let [long_name, inner_by_label] =
        [&b"\xd9\x04name\xa3out"[..], b"\xa5inner\x82\xa5label\x90\xda\x00\x04name\xa2in"];
    for entries in [
        [name, names, inner, nam, namesake],
        [namesake, nam, inner, names, name],
        [name, label, inner_by_label, namesake, nam],
        [nam, long_name, inner, label, namesake],
    ] {
        let payload = [&[0x85], entries.concat().as_slice()].concat();
        assert_eq!(codec::decode::<Named>(&payload).as_ref(), Ok(&outer), "{payload:02x?}");
    }
}

#[test]
fn a_name_that_is_none_is_told_where_it_starts() {
    // In their order, so that each of them is expected.
    assert_error::<Echo>(b"\x82\xa2id\x07\xa4dat", "truncated: the payload ends within the value at offset 6");
    assert_error::<Echo>(b"\x82\xa2id\x07\xa2id\x07", "duplicate field `id` at offset 0");
    assert_error::<Echo>(b"\x82\xa2i\xff\x07\xa4data\x07", "invalid string: it is not UTF-8 at offset 1");
}

#[test]
fn bytes_come_as_bin_string_or_array() {
    for payload in [&b"\xc4\x02hi"[..], b"\xa2hi", b"\x92\x68\x69"] {
        assert_eq!(codec::decode::<ByteBuf>(payload).unwrap(), b"hi");
    }
    assert_eq!(codec::decode::<Vec<u8>>(b"\xc4\x02hi").unwrap(), b"hi");
    assert_eq!(codec::decode::<ByteBuf>(b"\xa1\xff").unwrap(), [0xff]);
}

#[test]
fn a_variant_is_named_alone_or_in_a_map() {
    #[derive(Debug, PartialEq, Deserialize)]
    enum Choice {
        Plain,
        Maybe(Option<u8>),
    }
    assert_eq!(codec::decode(b"\xa5Plain"), Ok(Choice::Plain));
    assert_eq!(codec::decode(b"\x81\xa5Plain\xc0"), Ok(Choice::Plain));
    assert_eq!(codec::decode(b"\xa5Maybe"), Ok(Choice::Maybe(None)));
    assert_eq!(codec::decode(b"\x81\xa5Maybe\x07"), Ok(Choice::Maybe(Some(7))));
}

#[test]
fn nothing_is_said_in_four_ways() {
    // The last four are the empty array and the empty map in their longer forms.
    let wasteful = [&b"\xdc\0\0"[..], b"\xdd\0\0\0\0", b"\xde\0\0", b"\xdf\0\0\0\0"];
    for payload in [&b""[..], b"\xc0", b"\x80", b"\x90"].into_iter().chain(wasteful) {
        assert_eq!(codec::decode(payload), Ok(()), "{payload:x?}");
        assert_eq!(codec::decode(payload), Ok(Unit), "{payload:x?}");
        assert_eq!(codec::decode(payload), Ok(Nothing {}), "{payload:x?}");
        assert_eq!(codec::decode(payload), Ok(Optional::default()), "{payload:x?}");
        assert_eq!(codec::decode(payload), Ok(None::<u8>), "{payload:x?}");
    }
    assert_eq!(codec::decode(b""), Ok(Value::Nil));
    assert_eq!(codec::decode(b"\xc0"), Ok(Value::Nil));
    assert_eq!(codec::decode(b"\x80"), Ok(Value::Map(vec![])));
    assert_eq!(codec::decode(b"\x90"), Ok(Value::Array(vec![])));
    assert_eq!(codec::decode(b"\x90"), Ok(Vec::<u8>::new()));
}

#[test]
fn something_is_not_nothing() {
    let error = "trailing bytes: 1 byte after the value at offset 1";
    assert_error::<()>(b"\xc0\xc0", error);
    assert_error::<()>(b"\x01", "invalid type: integer `1`, expected nil at offset 0");
}

#[test]
fn errors_say_what_and_where() {
    assert_error::<Echo>(b"", "invalid type: nil, expected a map or an array of fields at offset 0");
    assert_error::<Echo>(b"\x80", "missing field `id` at offset 0");
    assert_error::<Echo>(b"\x90", "invalid length: 0, expected an array of 2 elements at offset 0");
    assert_error::<Echo>(b"\x93\x01\xc4\x00\x02", "invalid length: 3, expected 2 at offset 0");
    assert_error::<Echo>(b"\x82\xa2id\xa1x\xa4data\xc4\x00", "invalid type: string \"x\", expected u64 at offset 4");
    assert_error::<Echo>(b"\x82\xa2id\x01\xa2id\x01", "duplicate field `id` at offset 0");
    assert_error::<u8>(b"\xcd\x01\x00", "invalid value: integer `256`, expected u8 at offset 0");
    assert_error::<u64>(b"\xff", "invalid value: integer `-1`, expected u64 at offset 0");
    assert_error::<u64>(b"\x01\x02\x03\x04", "trailing bytes: 3 bytes after the value at offset 1");
    assert_error::<String>(b"\x91\x01", "invalid type: array, expected a string at offset 0");
    assert_error::<String>(b"\xd4\x01\x01", "invalid type: ext, expected a string at offset 0");
    assert_error::<String>(b"\xa1\xff", "invalid string: it is not UTF-8 at offset 0");
    assert_error::<String>(b"\xa5abc", "truncated: the payload ends within the value at offset 1");
    assert_error::<Value>(b"\xc1", "invalid byte: 0xc1 starts no MessagePack value at offset 0");
    assert_error::<Shape>(
        b"\xa4Oval",
        "unknown variant `Oval`, expected `Point` or `Circle` or `Line` or `Box` at offset 0",
    );
    assert_error::<Shape>(b"\x82\x01\x01\x01\x01", "invalid length: a map of 2, expected one entry at offset 0");
    assert_error::<Shape>(
        b"\x93\x01\x01\x01",
        "invalid type: array, expected the name of a variant, alone or in a map at offset 0",
    );
}

#[test]
fn errors_repeat_little_of_what_was_sent() {
    let long = encode(&"ü".repeat(10_000));
    let message = codec::decode::<u64>(&long).unwrap_err().to_string();
    let quoted = format!("\"{}…\"", "ü".repeat(32));
    assert_eq!(message, format!("invalid type: string {quoted}, expected u64 at offset 0"));
    assert!(codec::decode::<Shape>(&long).unwrap_err().to_string().len() < 200);
}

#[test]
fn nesting_ends_at_the_limit_for_every_type() {
    for (open, close) in [(&b"\x91"[..], &b"\x90"[..]), (b"\x81\xa0", b"\x80")] {
        let nested = |depth: usize| [&open.repeat(depth - 1), close].concat();
        let deepest = nested(MAX_DEPTH);
        assert!(codec::decode::<Value>(&deepest).is_ok());
        assert!(codec::decode::<IgnoredAny>(&deepest).is_ok());
        for depth in [MAX_DEPTH + 1, MAX_DEPTH + 2, 1_000_000] {
            let payload = nested(depth);
            let error = format!("too deep: nesting deeper than 64 at offset {}", MAX_DEPTH * open.len());
            assert_error::<Value>(&payload, &error);
            assert_error::<IgnoredAny>(&payload, &error);
        }
    }
    let ext = [&b"\x91".repeat(MAX_DEPTH)[..], b"\xd4\x01\x01"].concat();
    assert!(codec::decode::<Value>(&ext).is_ok(), "an ext nests nothing");
}

/// Neither maps of one entry nor the names of variants in arrays may get around the limit.
#[test]
fn an_enum_that_holds_itself_is_no_way_around_the_limit() {
    let maps = b"\x81\xa5Again".repeat(1_000_000);
    assert_error::<Endless>(&maps, "too deep: nesting deeper than 64 at offset 448");
    let mut flat = b"\xdd\x00\x0f\x42\x40".to_vec();
    flat.extend(b"\x91\xa5Again".repeat(1_000_000));
    assert_error::<Vec<Endless>>(
        &flat,
        "invalid type: array, expected the name of a variant, alone or in a map at offset 5",
    );
    let ignored = [b"\x82\xa1x", &maps[..]].concat();
    assert!(codec::decode::<Echo>(&ignored).is_err());
}

#[test]
fn lengths_that_lie_are_refused_before_anything_is_allocated() {
    for marker in [0xdb, 0xc6, 0xc9, 0xdd, 0xdf] {
        let payload = [marker, 0xff, 0xff, 0xff, 0xff, 0x01];
        let error = codec::decode::<Value>(&payload).unwrap_err();
        assert!(error.to_string().starts_with("truncated: "), "{error}");
        assert!(codec::decode::<Vec<u64>>(&payload).is_err());
        assert!(codec::decode::<ByteBuf>(&payload).is_err());
        assert!(codec::decode::<BTreeMap<u8, u8>>(&payload).is_err());
    }
}

#[test]
fn every_form_survives_encoding() {
    survives(&Shape::Point);
    survives(&vec![
        Shape::Circle(70_000),
        Shape::Line(1, 2),
        Shape::Box { width: 3, inner: vec![Shape::Point, Shape::Circle(0)] },
    ]);
    survives(&(Some(1_u8), None::<String>, (), 'ü', true, -40_000_i32));
    survives(&(i64::MIN, u64::MAX, 1.5_f32, f64::MIN_POSITIVE));
    survives(&(i128::MIN, u128::MAX, 5_i128, 5_u128));
    survives(&BTreeMap::from([(-1, ByteBuf::from("x")), (1, ByteBuf::new())]));
    survives(&Unit);
    survives(&std::net::IpAddr::from([127, 0, 0, 1]));
}

#[test]
fn a_value_that_does_not_encode_leaves_the_output_as_it_was() {
    struct Broken;
    impl Serialize for Broken {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("it is broken"))
        }
    }
    let mut out = b"before".to_vec();
    let error = codec::encode(&(1, Broken), &mut out).unwrap_err();
    assert_eq!(error.to_string(), "the value does not encode: it is broken");
    assert_eq!(out, b"before");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn values_survive_encoding(value in values()) {
        let encoded = encode(&value);
        prop_assert_eq!(codec::decode(&encoded), Ok(value));
        prop_assert!(codec::decode::<IgnoredAny>(&encoded).is_ok());
    }

    #[test]
    fn a_payload_cut_short_does_not_decode(value in values(), end in any::<prop::sample::Index>()) {
        let encoded = encode(&value);
        let end = end.index(encoded.len());
        if end > 0 {
            let error = codec::decode::<Value>(&encoded[..end]).unwrap_err();
            prop_assert!(error.to_string().starts_with("truncated: "));
        }
    }

    /// Another implementation of the format accepts what this one accepts, and reads the same.
    #[test]
    fn values_read_as_another_decoder_reads_them(payload in prop::collection::vec(any::<u8>(), 1..60)) {
        if let Ok(value) = codec::decode::<Value>(&payload) {
            let other: Value = rmp_serde::from_slice(&payload).unwrap();
            prop_assert_eq!(encode(&value), encode(&other));
        }
    }
}

fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    codec::encode(value, &mut out).unwrap();
    out
}

#[track_caller]
fn survives<T: Serialize + DeserializeOwned + Debug + PartialEq>(value: &T) {
    let encoded = encode(value);
    let decoded: T = codec::decode(&encoded).unwrap_or_else(|error| panic!("{value:?}: {error}"));
    assert_eq!(decoded, *value);
}

#[track_caller]
fn assert_error<T: DeserializeOwned>(payload: &[u8], message: &str) {
    match codec::decode::<T>(payload) {
        Ok(_) => panic!("it decoded, but should fail with: {message}"),
        Err(error) => assert_eq!(error.to_string(), message),
    }
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        prop::num::f32::NORMAL.prop_map(Value::F32),
        prop::num::f64::NORMAL.prop_map(Value::F64),
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
