//! What MessagePack-RPC's messages, methods and params mean.

use postroom_protocol::rpc::{Format, Message, MessageErrorKind, MessageType, Method, arguments, encode};
use postroom_protocol::{Error, codec};
use proptest::prelude::*;
use rmpv::Value;
use serde::Deserialize;

#[test]
fn the_first_byte_tells_the_format() {
    for byte in 0..=u8::MAX {
        let is_message = byte == 0x93 || byte == 0x94;
        let expected = if is_message { Format::MessagePackRpc } else { Format::Packets };
        assert_eq!(Format::of_first_byte(byte), expected, "{byte:#04x}");
    }
}

#[test]
fn a_message_is_taken_apart_without_copying() {
    let bytes = b"\x94\x00\x07\xa3a.b\x92\x01\x02".to_vec();
    match Message::parse(&bytes) {
        Ok(Message::Request { msgid: 7, method, params }) => {
            assert_eq!(method.as_bytes().as_ptr_range(), bytes[4..7].as_ptr_range());
            assert_eq!(params.as_ptr_range(), bytes[7..].as_ptr_range());
        }
        other => panic!("expected a request, got {other:?}"),
    }
    assert_eq!(Message::parse(b"\x94\x01\x07\xc0\xc0"), Ok(Message::Response { msgid: 7, outcome: Ok(b"\xc0") }));
    assert_eq!(
        Message::parse(b"\x94\x01\x07\x81\xa1e\x90\xc0"),
        Ok(Message::Response { msgid: 7, outcome: Err(b"\x81\xa1e\x90") })
    );
    // Some send an error that is false where there is none; only nil is none here.
    assert_eq!(Message::parse(b"\x94\x01\x07\xc2\x05"), Ok(Message::Response { msgid: 7, outcome: Err(b"\xc2") }));
    assert_eq!(Message::parse(b"\x93\x02\xa1m\x90"), Ok(Message::Notification { method: "m", params: b"\x90" }));
}

#[test]
fn errors_of_messages_say_what_is_wrong() {
    let error = |bytes: &[u8]| Message::parse(bytes).unwrap_err();
    for bytes in [&b""[..], b"\x92\x02\xa1m", b"\xdc\x00\x04\x00\x07\xa1m\x90", b"\xc0"] {
        assert_eq!(error(bytes).to_string(), "the message is no array of three or four");
    }
    assert_eq!(
        error(b"\x94\x03\x07\xa1m\x90").to_string(),
        "the type of the message is not 0 (request), 1 (response) or 2 (notification)"
    );
    assert_eq!(error(b"\x93\x00\x07\xa1m").to_string(), "a request has 4 elements, and this one has 3");
    assert_eq!(error(b"\x93\x01\x07\xc0").to_string(), "a response has 4 elements, and this one has 3");
    assert_eq!(error(b"\x94\x02\x07\xa1m\x90").to_string(), "a notification has 3 elements, and this one has 4");
    assert_eq!(error(b"\x94\x00\xa1x\xa1m\x90").to_string(), "the id of the message is no unsigned integer of 32 bits");
    let bad_method = error(b"\x94\x00\x07\xa1\xff\x90");
    assert_eq!(bad_method.to_string(), "the method is no string of UTF-8");
    assert_eq!(bad_method.msgid(), Some(7));
    let truncated = error(b"\x94\x00\x07\xa1m");
    assert_eq!(truncated.kind, MessageErrorKind::Truncated);
    assert_eq!(truncated.to_string(), "the message ends before its last element");
    let malformed = error(b"\x94\x01\x07\x91");
    assert_eq!((malformed.head.message_type, malformed.msgid()), (Some(MessageType::Response), Some(7)));
    assert_eq!(
        malformed.to_string(),
        "the message cannot be read: truncated: the payload ends within the value at offset 2"
    );
    assert_eq!(malformed.head.answerable(), None);
}

#[test]
fn a_method_names_program_version_and_procedure() {
    let method = |program, version, procedure| Ok(Method { program, version, procedure });
    assert_eq!(Method::parse("echo.whoami"), method("echo", None, "whoami"));
    assert_eq!(Method::parse("echo/1.whoami"), method("echo", Some(1), "whoami"));
    assert_eq!(Method::parse("org.example.disk/12.read"), method("org.example.disk", Some(12), "read"));
    for text in ["", ".", "echo", "echo.", ".whoami", "/1.whoami", "a/1/2.b", "echo.who/1", "echo/1"] {
        let message = Method::parse(text).unwrap_err().to_string();
        assert_eq!(message, format!("method {text:?} is neither `program.procedure` nor `program/version.procedure`"));
    }
    for text in ["e/.b", "e/0.b", "e/01.b", "e/+1.b", "e/-1.b", "e/1 .b", "e/4294967296.b", "e/1.0.b", "e/\u{661}.b"] {
        let message = Method::parse(text).unwrap_err().to_string();
        assert_eq!(message, format!("method {text:?} names a version that is no number from 1 to 4294967295"));
    }
    let long = Method::parse(&"ü".repeat(1000)).unwrap_err().to_string();
    assert!(long.len() < 200, "{long}");
}

#[test]
fn params_are_fields_in_order_or_by_name() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Fields {
        id: u8,
        name: String,
    }
    let fields = Fields { id: 7, name: "x".to_owned() };
    for params in [
        &b"\x92\x07\xa1x"[..],
        b"\x91\x82\xa2id\x07\xa4name\xa1x",
        b"\x82\xa2id\x07\xa4name\xa1x",
        b"\xdc\x00\x02\x07\xa1x",
        b"\xdc\x00\x01\x82\xa2id\x07\xa4name\xa1x",
        b"\xdd\x00\x00\x00\x01\xde\x00\x02\xa2id\x07\xa4name\xa1x",
    ] {
        assert_eq!(codec::decode::<Fields>(arguments(params).unwrap()).as_ref(), Ok(&fields), "{params:x?}");
    }
    for params in [&b"\xc0"[..], b"\x90", b"\x80", b"\x91\x80", b"\xdc\0\0"] {
        assert_eq!(codec::decode(arguments(params).unwrap()), Ok(()), "{params:x?}");
    }
}

/// The rule where an array of one map could mean two things.
#[test]
fn a_single_field_that_is_a_map_is_sent_by_name() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Put {
        entry: std::collections::BTreeMap<String, u8>,
    }
    let put = Put { entry: [("a".to_owned(), 1)].into() };
    assert_eq!(codec::decode(arguments(b"\x91\x81\xa5entry\x81\xa1a\x01").unwrap()), Ok(put));
    let error = codec::decode::<Put>(arguments(b"\x91\x81\xa1a\x01").unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "missing field `entry` at offset 0");
    // Every other single field may come in an array.
    assert_eq!(codec::decode(arguments(b"\x91\x05").unwrap()), Ok((5_u8,)));
    assert_eq!(codec::decode(arguments(b"\x91\xc0").unwrap()), Ok((None::<u8>,)));
    assert_eq!(codec::decode(arguments(b"\x91\x91\x05").unwrap()), Ok((vec![5_u8],)));
    assert_eq!(codec::decode(arguments(b"\x92\x80\x80").unwrap()), Ok(vec![Value::Map(vec![]); 2]));
}

#[test]
fn params_that_are_no_arguments_are_refused() {
    for (params, found) in [
        (&b""[..], "missing"),
        (b"\x05", "a number"),
        (b"\xff", "a number"),
        (b"\xcb\0\0\0\0\0\0\0\0", "a number"),
        (b"\xa1x", "a string"),
        (b"\xc4\x00", "a bin"),
        (b"\xc3", "a boolean"),
        (b"\xd4\0\0", "an ext"),
        (b"\xc1", "no MessagePack"),
    ] {
        let message = arguments(params).unwrap_err().to_string();
        assert_eq!(message, format!("the params are {found}; they must be an array, a map or nil"));
    }
}

#[test]
fn a_response_without_a_result_is_nil() {
    for (msgid, length) in [(0, 5), (127, 5), (128, 6), (255, 6), (256, 7), (65_535, 7), (65_536, 9), (u32::MAX, 9)] {
        let mut out = b"before".to_vec();
        let start = encode::begin_response(msgid, &mut out);
        encode::finish_response(start, &mut out);
        assert_eq!(start, 6);
        assert_eq!(out.len(), start + length);
        assert_eq!(Message::parse(&out[start..]), Ok(Message::Response { msgid, outcome: Ok(b"\xc0") }));
    }
}

/// A result may begin to be written and then fail.
#[test]
fn a_response_that_was_begun_can_become_an_error() {
    let mut out = b"before".to_vec();
    let start = encode::begin_response(7, &mut out);
    out.extend(b"half a result");
    out.truncate(start);
    encode::error(7, &Error::failed("it broke"), &mut out);
    match Message::parse(&out[6..]) {
        Ok(Message::Response { msgid: 7, outcome: Err(error) }) => {
            assert_eq!(Error::decode(error), Ok(Error::failed("it broke")));
        }
        other => panic!("expected an error, got {other:?}"),
    }
}

#[test]
fn a_call_without_arguments_has_an_empty_array() {
    let mut out = Vec::new();
    encode::request(1, "a.b", b"", &mut out);
    encode::notification("a.b", b"", &mut out);
    assert_eq!(out, b"\x94\x00\x01\xa3a.b\x90\x93\x02\xa3a.b\x90");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages_survive_encoding(
        msgid in any::<u32>(),
        method in ".{0,300}",
        params in prop::collection::vec(any::<i8>(), 0..40),
    ) {
        let params = packed(&params);
        let mut out = Vec::new();
        encode::request(msgid, &method, &params, &mut out);
        prop_assert_eq!(Message::parse(&out), Ok(Message::Request { msgid, method: &method, params: &params }));
        out.clear();
        encode::notification(&method, &params, &mut out);
        prop_assert_eq!(Message::parse(&out), Ok(Message::Notification { method: &method, params: &params }));
        out.clear();
        encode::response(msgid, &params, &mut out);
        prop_assert_eq!(Message::parse(&out), Ok(Message::Response { msgid, outcome: Ok(&params) }));
    }

    #[test]
    fn methods_survive_being_written(
        program in "[a-z][a-z.]{0,9}",
        version in prop::option::of(1..=u32::MAX),
        procedure in "[a-z_]{1,9}",
    ) {
        let method = Method { program: &program, version, procedure: &procedure };
        let text = method.to_string();
        prop_assert_eq!(Method::parse(&text), Ok(method));
    }

    #[test]
    fn no_bytes_make_a_message_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        for front in [&b""[..], b"\x94", b"\x94\x00", b"\x94\x01\x07", b"\x93\x02"] {
            if let Err(error) = Message::parse(&[front, &bytes].concat()) {
                prop_assert!(error.to_string().len() < 300);
            }
        }
        if let Ok(arguments) = arguments(&bytes) {
            prop_assert!(bytes.ends_with(arguments));
        }
    }
}

fn packed(value: &[i8]) -> Vec<u8> {
    let mut out = Vec::new();
    codec::encode(value, &mut out).unwrap();
    out
}
