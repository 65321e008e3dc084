//! What XDR reads, what it refuses, and that a value has one form only.

use std::collections::BTreeMap;
use std::fmt::Debug;

use postroom_protocol::xdr::{self, Fixed, MAX_DEPTH, XdrErrorKind};
use postroom_protocol::{XdrError, codec};
use proptest::prelude::*;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// A domain as libvirt names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Domain {
    name: String,
    uuid: Fixed<16>,
    id: i32,
}

/// The payload of an error reply of libvirt. What it says of networks is never there.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct RemoteError {
    code: i32,
    domain: i32,
    message: Option<String>,
    level: i32,
    dom: Option<Domain>,
    str1: Option<String>,
    str2: Option<String>,
    str3: Option<String>,
    int1: i32,
    int2: i32,
    net: Option<Domain>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum AuthType {
    None,
    Sasl,
    Polkit,
}

/// A discriminated union, whose numbers here begin at 1.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum TypedValue {
    Reserved,
    Int(i32),
    Unsigned(u32),
    Long(i64),
    UnsignedLong(u64),
    Double(f64),
    Boolean(bool),
    Text(String),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    Circle(u32),
    Line(u8, i8),
    Box { width: u16, inner: Vec<Shape> },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct List {
    value: i32,
    next: Option<Box<List>>,
}

#[test]
fn the_example_of_the_rfc_is_read_and_written() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Kind {
        Text,
        Data(String),
        Exec(String),
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct File {
        filename: String,
        kind: Kind,
        owner: String,
        data: ByteBuf,
    }
    same(
        &File {
            filename: "sillyprog".to_owned(),
            kind: Kind::Exec("lisp".to_owned()),
            owner: "john".to_owned(),
            data: ByteBuf::from("(quit)"),
        },
        b"\0\0\0\x09sillyprog\0\0\0\0\0\0\x02\0\0\0\x04lisp\0\0\0\x04john\0\0\0\x06(quit)\0\0",
    );
    assert!(decode::<Kind>(b"\0\0\0\0").is_ok_and(|kind| kind == Kind::Text));
    assert!(decode::<Kind>(b"\0\0\0\x01\0\0\0\0").is_ok_and(|kind| kind == Kind::Data(String::new())));
}

/// What a libvirt client and its daemon said to each other.
#[test]
fn a_recorded_conversation_is_read_and_written() {
    // The ways to authenticate: none is needed.
    same(&vec![AuthType::None], b"\0\0\0\x01\0\0\0\0");
    // Is feature 10 supported? It is.
    same(&(10_i32,), b"\0\0\0\x0a");
    same(&(1_i32,), b"\0\0\0\x01");
    // Open a connection: the name and the flags.
    same(&(Some("test:///default".to_owned()), 6_u32), b"\0\0\0\x01\0\0\0\x0ftest:///default\0\0\0\0\x06");
    same(&(None::<String>, 1_u32), b"\0\0\0\0\0\0\0\x01");
    same(&(), b"");
    // What is the host called?
    same(&"vm".to_owned(), b"\0\0\0\x02vm\0\0");
    // Which domains are running? One is, and the number of all is 1.
    same(&(1_i32, 1_u32), b"\0\0\0\x01\0\0\0\x01");
    let uuid = *b"\x66\x95\xeb\x01\xf6\xa4\x83\x04\x79\xaa\x97\xf2\x50\x2e\x19\x3f";
    let domain = Domain { name: "test".to_owned(), uuid: Fixed(uuid), id: 1 };
    let domain_bytes = [&b"\0\0\0\x04test"[..], &uuid, b"\0\0\0\x01"].concat();
    same(&(vec![domain.clone()], 1_u32), &[b"\0\0\0\x01", &domain_bytes[..], b"\0\0\0\x01"].concat());
    // What is its state? It runs.
    same(&(domain.clone(), 0_u32), &[&domain_bytes[..], b"\0\0\0\0"].concat());
    same(&(1_i32, 1_i32), b"\0\0\0\x01\0\0\0\x01");
    // Say what happens to any domain, or to this one.
    same(&(0_i32, None::<Domain>), b"\0\0\0\0\0\0\0\0");
    same(&(0_i32, Some(domain)), &[b"\0\0\0\0\0\0\0\x01", &domain_bytes[..]].concat());
    // A hole in a stream.
    same(&(0x35_5000_i64, 0_u32), b"\0\0\0\0\0\x35\x50\0\0\0\0\0");
}

#[test]
fn a_recorded_error_is_read_and_written() {
    let error = RemoteError {
        code: 39,
        domain: 7,
        message: Some("unknown procedure: 66".to_owned()),
        level: 2,
        dom: None,
        str1: Some("%s".to_owned()),
        str2: Some("unknown procedure: 66".to_owned()),
        str3: None,
        int1: -1,
        int2: -1,
        net: None,
    };
    same(
        &error,
        b"\0\0\0\x27\0\0\0\x07\
          \0\0\0\x01\0\0\0\x15unknown procedure: 66\0\0\0\
          \0\0\0\x02\
          \0\0\0\0\
          \0\0\0\x01\0\0\0\x02%s\0\0\
          \0\0\0\x01\0\0\0\x15unknown procedure: 66\0\0\0\
          \0\0\0\0\
          \xff\xff\xff\xff\xff\xff\xff\xff\
          \0\0\0\0",
    );
}

#[test]
fn numbers_have_four_or_eight_bytes() {
    same(&(-1_i8, 1_i16, i32::MIN), b"\xff\xff\xff\xff\0\0\0\x01\x80\0\0\0");
    same(&(255_u8, 1_u16, u32::MAX), b"\0\0\0\xff\0\0\0\x01\xff\xff\xff\xff");
    same(&(i64::MIN, u64::MAX), b"\x80\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff");
    same(&(1.5_f32, -2.0_f64), b"\x3f\xc0\0\0\xc0\0\0\0\0\0\0\0");
    same(&(true, false), b"\0\0\0\x01\0\0\0\0");
    assert_error::<i8>(b"\0\0\0\x80", "invalid value: integer `128`, expected i8 at offset 0");
    assert_error::<u8>(b"\0\0\x01\0", "invalid value: integer `256`, expected u8 at offset 0");
    assert_error::<i16>(b"\xff\xff\0\0", "invalid value: integer `-65536`, expected i16 at offset 0");
    assert_error::<(u16, u16)>(
        b"\0\0\0\0\xff\xff\xff\xff",
        "invalid value: integer `4294967295`, expected u16 at offset 4",
    );
}

#[test]
fn strings_and_opaques_are_filled_with_zeros() {
    for (text, bytes) in [
        ("", &b"\0\0\0\0"[..]),
        ("a", b"\0\0\0\x01a\0\0\0"),
        ("ab", b"\0\0\0\x02ab\0\0"),
        ("abc", b"\0\0\0\x03abc\0"),
        ("abcd", b"\0\0\0\x04abcd"),
        ("\u{fc}", b"\0\0\0\x02\xc3\xbc\0\0"),
    ] {
        same(&text.to_owned(), bytes);
        same(&ByteBuf::from(text), bytes);
    }
    same(&Fixed(*b""), b"");
    same(&Fixed(*b"abcde"), b"abcde\0\0\0");
    assert_error::<String>(b"\0\0\0\x01a\0\x01\0", "invalid padding: the byte is 0x01, expected zero at offset 6");
    assert_error::<ByteBuf>(b"\0\0\0\x03abc\xff", "invalid padding: the byte is 0xff, expected zero at offset 7");
    assert_error::<Fixed<5>>(b"abcde\0\0\x20", "invalid padding: the byte is 0x20, expected zero at offset 7");
    assert_error::<String>(b"\0\0\0\x01a\0\0", "truncated: the payload ends within the value at offset 5");
    assert_error::<String>(b"\0\0\0\x01\xff\0\0\0", "invalid string: it is not UTF-8 at offset 0");
    assert_eq!(decode::<ByteBuf>(b"\0\0\0\x01\xff\0\0\0").unwrap(), [0xff]);
}

#[test]
fn arrays_are_counted_and_tuples_are_not() {
    same(&vec![1_u8, 2], b"\0\0\0\x02\0\0\0\x01\0\0\0\x02");
    same(&[1_u8, 2], b"\0\0\0\x01\0\0\0\x02");
    same(&vec![vec!["a".to_owned()], vec![]], b"\0\0\0\x02\0\0\0\x01\0\0\0\x01a\0\0\0\0\0\0\0");
    same(
        &List { value: 1, next: Some(Box::new(List { value: 2, next: None })) },
        b"\0\0\0\x01\0\0\0\x01\0\0\0\x02\0\0\0\0",
    );
}

#[test]
fn a_choice_is_the_number_of_its_variant() {
    same(&AuthType::Polkit, b"\0\0\0\x02");
    same(&Shape::Point, b"\0\0\0\0");
    same(&Shape::Circle(7), b"\0\0\0\x01\0\0\0\x07");
    same(&Shape::Line(1, -1), b"\0\0\0\x02\0\0\0\x01\xff\xff\xff\xff");
    let inner = vec![Shape::Point, Shape::Circle(0)];
    same(&Shape::Box { width: 3, inner }, b"\0\0\0\x03\0\0\0\x03\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0\0");
    same(
        &vec![TypedValue::Long(-2), TypedValue::Boolean(true), TypedValue::Text("x".to_owned())],
        b"\0\0\0\x03\0\0\0\x03\xff\xff\xff\xff\xff\xff\xff\xfe\0\0\0\x06\0\0\0\x01\0\0\0\x07\0\0\0\x01x\0\0\0",
    );
    assert_error::<AuthType>(
        b"\0\0\0\x03",
        "invalid value: integer `3`, expected variant index 0 <= i < 3 at offset 0",
    );
    assert_error::<AuthType>(b"\xff\xff\xff\xff", "invalid variant: -1, expected a number from 0 at offset 0");
}

#[test]
fn what_is_there_or_not_is_said_with_0_or_1_only() {
    assert_error::<bool>(b"\0\0\0\x02", "invalid bool: 2, expected 0 or 1 at offset 0");
    assert_error::<bool>(b"\xff\xff\xff\xff", "invalid bool: 4294967295, expected 0 or 1 at offset 0");
    assert_error::<(u8, Option<u8>)>(b"\0\0\0\0\0\0\0\x02", "invalid optional: 2, expected 0 or 1 at offset 4");
}

#[test]
fn a_payload_holds_exactly_one_value() {
    assert_error::<u32>(b"", "truncated: the payload ends within the value at offset 0");
    assert_error::<(u32, u64)>(&[0; 11], "truncated: the payload ends within the value at offset 4");
    assert_error::<u32>(&[0; 5], "trailing bytes: 1 byte after the value at offset 4");
    assert_error::<()>(&[0; 8], "trailing bytes: 8 bytes after the value at offset 0");
}

#[test]
fn lengths_that_lie_are_refused_before_anything_is_allocated() {
    #[derive(Debug, Default, Deserialize)]
    struct Large {
        #[expect(dead_code, reason = "only its size matters")]
        #[serde(skip)]
        nothing_on_the_wire: [u64; 32],
    }
    for count in [&b"\xff\xff\xff\xff"[..], b"\x7f\xff\xff\xff", b"\0\0\0\x02"] {
        let payload = [count, b"abcd"].concat();
        for kind in [
            kind_of::<Vec<u32>>(&payload),
            kind_of::<Vec<String>>(&payload),
            kind_of::<Vec<()>>(&payload),
            kind_of::<Vec<Large>>(&payload),
        ] {
            assert_eq!(kind, XdrErrorKind::Truncated);
        }
    }
    assert_eq!(kind_of::<ByteBuf>(b"\xff\xff\xff\xffabcd"), XdrErrorKind::Truncated);
    assert_eq!(kind_of::<String>(b"\0\0\0\x05abcd"), XdrErrorKind::Truncated);
}

#[test]
fn lengths_over_a_limit_name_it() {
    assert_eq!(xdr::decode_limited(b"\0\0\0\x04abcd", 4), Ok("abcd".to_owned()));
    let error = xdr::decode_limited::<(u32, String)>(b"\0\0\0\0\0\0\0\x05abcde\0\0\0", 4).unwrap_err();
    assert_eq!(error.kind(), XdrErrorKind::TooLong { length: 5, limit: 4 });
    assert_eq!(error.to_string(), "too long: 5 bytes or elements, and the limit is 4 at offset 4");
    for claimed in [5_u32, u32::MAX] {
        let payload = claimed.to_be_bytes();
        let expected = XdrErrorKind::TooLong { length: claimed.into(), limit: 4 };
        assert_eq!(xdr::decode_limited::<ByteBuf>(&payload, 4).unwrap_err().kind(), expected);
        assert_eq!(xdr::decode_limited::<Vec<u8>>(&payload, 4).unwrap_err().kind(), expected);
    }
    // What both sides know the length of is not meant.
    assert_eq!(xdr::decode_limited(b"abcdefgh", 4), Ok(Fixed(*b"abcdefgh")));
}

#[test]
fn nesting_ends_at_the_limit_both_ways() {
    // Every element of the list is a struct, and all but the first are optional: two levels each.
    let list =
        |n: usize| (1..n).fold(List { value: 0, next: None }, |list, _| List { value: 0, next: Some(Box::new(list)) });
    let encoded = |n: usize| [&b"\0\0\0\0\0\0\0\x01".repeat(n - 1)[..], b"\0\0\0\0\0\0\0\0"].concat();
    let deepest = MAX_DEPTH / 2;
    same(&list(deepest), &encoded(deepest));
    for n in [deepest + 1, 100, 100_000] {
        let error = decode::<List>(&encoded(n)).unwrap_err();
        assert_eq!(error.to_string(), "too deep: nesting deeper than 64 at offset 256");
        assert_eq!(error.kind(), XdrErrorKind::TooDeep);
    }
    let mut out = b"before".to_vec();
    let error = xdr::encode(&list(deepest + 1), &mut out).unwrap_err();
    assert_eq!((error.kind(), error.offset()), (XdrErrorKind::TooDeep, None));
    assert_eq!(out, b"before");
}

/// Nor does an enum that holds itself get around the limit.
#[test]
fn every_form_counts_towards_the_limit() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Tree {
        Leaf,
        Node(Box<Tree>),
        Tuple(Box<Tree>, ()),
        Struct { inner: Vec<Tree> },
    }
    for (number, open, levels) in [(1, &b"\0\0\0\x01"[..], 1), (2, b"\0\0\0\x02", 2), (3, b"\0\0\0\x03\0\0\0\x01", 3)] {
        let nested = |n: usize| [&open.repeat(n)[..], b"\0\0\0\0"].concat();
        let deepest = (MAX_DEPTH - 1) / levels;
        let tree: Tree = decode(&nested(deepest)).unwrap();
        same(&tree, &nested(deepest));
        assert_eq!(kind_of::<Tree>(&nested(deepest + 1)), XdrErrorKind::TooDeep, "variant {number}");
        assert_eq!(kind_of::<Tree>(&nested(1_000_000)), XdrErrorKind::TooDeep, "variant {number}");
        let deeper = match number {
            1 => Tree::Node(Box::new(tree)),
            2 => Tree::Tuple(Box::new(tree), ()),
            _ => Tree::Struct { inner: vec![tree] },
        };
        assert_eq!(xdr::encode(&deeper, &mut Vec::new()).unwrap_err().kind(), XdrErrorKind::TooDeep);
    }
}

#[test]
fn what_xdr_does_not_have_is_refused() {
    #[derive(Debug, Default, Serialize, Deserialize)]
    struct LeftOut {
        #[serde(skip_serializing_if = "Option::is_none")]
        maybe: Option<u8>,
    }
    let refused = |error: XdrError| {
        assert_eq!(error.kind(), XdrErrorKind::Unsupported, "{error}");
        error.to_string()
    };
    assert_eq!(refused(encode('x').unwrap_err()), "unsupported: XDR has no characters");
    assert_eq!(refused(encode(BTreeMap::from([(1, 1)])).unwrap_err()), "unsupported: XDR has no maps");
    assert_eq!(refused(encode(1_u128).unwrap_err()), "unsupported: XDR has no integers of 128 bits");
    assert_eq!(
        refused(encode(LeftOut::default()).unwrap_err()),
        "unsupported: XDR has no fields that are left out, as `maybe` is"
    );
    assert_eq!(refused(encode(vec![()]).unwrap_err()), "unsupported: XDR has no arrays of elements that have no bytes");
    assert_eq!(encode(Vec::<()>::new()), Ok(vec![0; 4]));
    for error in [
        decode::<char>(&[0; 4]).unwrap_err(),
        decode::<BTreeMap<u8, u8>>(&[0; 4]).unwrap_err(),
        decode::<i128>(&[0; 16]).unwrap_err(),
        decode::<rmpv::Value>(&[0; 4]).unwrap_err(),
        decode::<IgnoredAny>(&[0; 4]).map(drop).unwrap_err(),
    ] {
        assert!(refused(error).ends_with(" at offset 0"));
    }
}

#[test]
fn fixed_bytes_are_plain_bytes_in_messagepack() {
    let fixed = Fixed(*b"abcd");
    let mut out = Vec::new();
    codec::encode(&fixed, &mut out).unwrap();
    assert_eq!(out, b"\xc4\x04abcd");
    assert_eq!(codec::decode(&out), Ok(fixed));
    assert_eq!(codec::decode(b"\x94abcd"), Ok(fixed));
    let error = codec::decode::<Fixed<4>>(b"\xc4\x03abc").unwrap_err();
    assert_eq!(error.to_string(), "invalid length: 3, expected 4 bytes at offset 0");
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
    assert_eq!(xdr::encode(&(1, Broken), &mut out).unwrap_err().to_string(), "it is broken");
    assert_eq!(out, b"before");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn values_survive_encoding(value in values()) {
        let encoded = encode(&value).unwrap();
        prop_assert_eq!(encoded.len() % 4, 0);
        prop_assert_eq!(decode::<Value>(&encoded), Ok(value));
    }

    #[test]
    fn a_payload_cut_short_does_not_decode(value in values(), end in any::<prop::sample::Index>()) {
        let encoded = encode(&value).unwrap();
        let end = end.index(encoded.len());
        prop_assert_eq!(kind_of::<Value>(&encoded[..end]), XdrErrorKind::Truncated);
    }

    /// Otherwise two payloads would mean the same, and one of them would be a mistake that goes unnoticed.
    #[test]
    fn what_decodes_is_encoded_as_it_was(
        payload in prop::collection::vec(prop_oneof![6 => Just(0_u8), 2 => 0..4_u8, 1 => any::<u8>()], 0..80),
    ) {
        if let Ok(value) = decode::<Vec<Shape>>(&payload) {
            prop_assert_eq!(encode(&value).unwrap(), payload.clone());
        }
        if let Ok(value) = decode::<(String, Option<Domain>)>(&payload) {
            prop_assert_eq!(encode(&value).unwrap(), payload);
        }
    }
}

/// Every form that XDR has.
type Value = (
    (i8, u16, i64, u64, bool, f64),
    (String, ByteBuf, Fixed<7>),
    Vec<(Option<String>, i32)>,
    Option<Box<Domain>>,
    Vec<Shape>,
);

fn values() -> impl Strategy<Value = Value> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40).prop_map(ByteBuf::from);
    let domain = ("\\PC{0,9}", any::<[u8; 16]>(), any::<i32>())
        .prop_map(|(name, uuid, id)| Box::new(Domain { name, uuid: Fixed(uuid), id }));
    (
        (any::<i8>(), any::<u16>(), any::<i64>(), any::<u64>(), any::<bool>(), prop::num::f64::NORMAL),
        (".{0,20}", bytes(), any::<[u8; 7]>().prop_map(Fixed)),
        prop::collection::vec((prop::option::of(".{0,5}"), any::<i32>()), 0..6),
        prop::option::of(domain),
        prop::collection::vec(shapes(), 0..4),
    )
}

fn shapes() -> impl Strategy<Value = Shape> {
    let leaf = prop_oneof![
        Just(()).prop_map(|()| Shape::Point),
        any::<u32>().prop_map(Shape::Circle),
        any::<(u8, i8)>().prop_map(|(a, b)| Shape::Line(a, b)),
    ];
    leaf.prop_recursive(4, 20, 5, |inner| {
        (any::<u16>(), prop::collection::vec(inner, 0..5)).prop_map(|(width, inner)| Shape::Box { width, inner })
    })
}

fn encode<T: Serialize>(value: T) -> Result<Vec<u8>, XdrError> {
    let mut out = Vec::new();
    xdr::encode(&value, &mut out)?;
    Ok(out)
}

fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, XdrError> {
    xdr::decode(payload)
}

fn kind_of<T: DeserializeOwned>(payload: &[u8]) -> XdrErrorKind {
    match decode::<T>(payload) {
        Ok(_) => panic!("it decoded"),
        Err(error) => error.kind(),
    }
}

/// `value` is written as `bytes`, and they are read as it.
#[track_caller]
fn same<T: Serialize + DeserializeOwned + Debug + PartialEq>(value: &T, bytes: &[u8]) {
    assert_eq!(encode(value).unwrap(), bytes, "{value:?}");
    let decoded: T = decode(bytes).unwrap_or_else(|error| panic!("{value:?}: {error}"));
    assert_eq!(decoded, *value);
}

#[track_caller]
fn assert_error<T: DeserializeOwned>(payload: &[u8], message: &str) {
    match decode::<T>(payload) {
        Ok(_) => panic!("it decoded, but should fail with: {message}"),
        Err(error) => assert_eq!(error.to_string(), message),
    }
}
