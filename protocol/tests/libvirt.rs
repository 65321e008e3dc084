//! What libvirt's clients are told of an error, byte by byte.

use postroom_protocol::libvirt::{self, ErrorCode, ErrorDomain, RemoteError, encode_reply_error};
use postroom_protocol::{Code, Error, Header, PacketType, Status, xdr};

const HEADER: Header = Header {
    program: 0x2000_8086,
    version: 1,
    procedure: 66,
    packet_type: PacketType::Call,
    serial: 3,
    status: Status::Ok,
};

fn told(error: &Error) -> RemoteError {
    RemoteError::new(&HEADER, error)
}

fn numbers(error: &Error) -> (i32, i32) {
    let told = told(error);
    (told.code.0, told.domain.0)
}

#[test]
fn an_unknown_procedure_is_told_as_libvirt_tells_it() {
    let mut out = Vec::new();
    encode_reply_error(&HEADER, &Error::unknown_procedure("remote", 66), &mut out);
    let mut expected = Vec::new();
    expected.extend(b"\0\0\0\x7c\x20\x00\x80\x86\0\0\0\x01\0\0\0\x42\0\0\0\x01\0\0\0\x03\0\0\0\x01");
    // Code 39, domain 7, a message of 21 bytes and their padding, level 2, no domain.
    expected.extend(b"\0\0\0\x27\0\0\0\x07\0\0\0\x01\0\0\0\x15unknown procedure: 66\0\0\0\0\0\0\x02\0\0\0\0");
    // The code that Postroom gives it, nothing, nothing, -1, -1, no network.
    expected.extend(b"\0\0\0\x01\0\0\0\x11unknown_procedure\0\0\0\0\0\0\0\0\0\0\0");
    expected.extend(b"\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0");
    assert_eq!(out, expected);
}

#[test]
fn an_error_that_libvirts_own_test_encodes_has_the_same_length_here() {
    let text = |text: &str| Some(text.to_owned());
    let error = RemoteError {
        code: ErrorCode::INTERNAL_ERROR,
        domain: ErrorDomain::RPC,
        message: text("Hello World"),
        level: 2,
        dom: None,
        str1: text("One"),
        str2: text("Two"),
        str3: text("Three"),
        int1: 1,
        int2: 2,
        net: None,
    };
    let mut payload = Vec::new();
    xdr::encode(&error, &mut payload).unwrap();
    assert_eq!(28 + payload.len(), 0x74);
    assert_eq!(RemoteError::decode(&payload).unwrap(), error);
}

#[test]
fn what_does_not_exist_is_named_by_its_numbers() {
    let error = told(&Error::unknown_version("remote", 0x2000_8086, 1, &[2]));
    assert_eq!(error.message.as_deref(), Some("Cannot find program 536903814 version 1"));
    assert_eq!((error.code, error.domain), (ErrorCode::RPC, ErrorDomain::RPC));
    assert_eq!(told(&Error::unknown_program(0x2000_8086, 1)).message, error.message);
}

#[test]
fn each_code_has_its_number() {
    let expected = [
        (Code::UNKNOWN_PROGRAM, 39, 7),
        (Code::UNKNOWN_VERSION, 39, 7),
        (Code::UNKNOWN_PROCEDURE, 39, 7),
        (Code::INVALID_ARGUMENTS, 8, 7),
        (Code::UNAUTHENTICATED, 39, 7),
        (Code::DENIED, 88, 7),
        (Code::OVERLOADED, 87, 7),
        (Code::DEADLINE_EXCEEDED, 68, 7),
        (Code::CANCELLED, 78, 7),
        (Code::TOO_LARGE, 39, 7),
        (Code::PROTOCOL, 39, 7),
        (Code::FAILED, 9, 0),
        (Code::INTERNAL, 1, 7),
        (Code::SHUTTING_DOWN, 87, 7),
        (Code::UNSUPPORTED, 3, 7),
        (Code::POISONED, 55, 7),
        (Code::PACKET_TIMEOUT, 39, 7),
        (Code::WRITE_TIMEOUT, 39, 7),
        (Code::IDLE_TIMEOUT, 39, 7),
        (Code::KEEPALIVE_TIMEOUT, 39, 7),
    ];
    assert_eq!(expected.len(), Code::ALL.len());
    for (code, number, domain) in expected {
        let error = told(&Error::new(code.clone(), "why"));
        assert_eq!((error.code.0, error.domain.0), (number, domain), "{code}");
        assert_eq!((error.level, error.str1.as_deref()), (2, Some(code.as_str())));
    }
    assert_eq!(numbers(&Error::new(Code::new("no_tea"), "why")), (9, 0));
}

#[test]
fn a_handler_says_its_own_numbers_and_other_clients_find_them_in_the_details() {
    let error = libvirt::error(ErrorCode::NO_DOMAIN, ErrorDomain::TEST, "no domain \"tea\"");
    assert_eq!(numbers(&error), (42, 12));
    assert_eq!(told(&error).message.as_deref(), Some("no domain \"tea\""));
    assert_eq!(error.code(), "failed");
    let details = error.details().unwrap();
    assert_eq!((details["libvirt"]["code"].as_i64(), details["libvirt"]["domain"].as_i64()), (Some(42), Some(12)));
}

#[test]
fn details_that_mean_something_else_are_no_numbers() {
    for details in [rmpv::Value::from(1), rmpv::Value::from(vec![("libvirt".into(), rmpv::Value::from("x"))])] {
        assert_eq!(numbers(&Error::failed("why").with_details(details)), (9, 0));
    }
}

#[test]
fn a_message_that_is_too_long_for_libvirt_is_cut_between_characters() {
    let message = told(&Error::failed("ü".repeat(3 * 1024 * 1024))).message.unwrap();
    assert_eq!(message.len(), 4 * 1024 * 1024);
    let message = told(&Error::failed(format!("x{}", "ü".repeat(3 * 1024 * 1024)))).message.unwrap();
    assert_eq!(message.len(), 4 * 1024 * 1024 - 1);
}

#[test]
fn libvirts_own_programs_are_known() {
    for (program, is_own) in [(0x2000_8086, true), (0x2000_8087, true), (0x0690_0690, true), (0x6563_686f, false)] {
        assert_eq!(libvirt::is_own_program(program), is_own, "{program:#x}");
    }
}
