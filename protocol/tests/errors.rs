//! The errors that clients see: their wire form, their flags and their words.

use std::time::Duration;

use postroom_protocol::{Code, Error, Header, PacketType, Status, codec, encode_announcement, encode_reply_error};
use rmpv::Value;
use serde::{Deserialize, Serialize};

#[test]
fn an_error_is_one_pointer_wide() {
    assert_eq!(size_of::<Error>(), size_of::<usize>());
    assert_eq!(size_of::<Result<(), Error>>(), size_of::<usize>());
}

#[test]
fn absent_options_are_left_out() {
    let mut out = Vec::new();
    codec::encode(&Error::failed("no"), &mut out).unwrap();
    let value: Value = codec::decode(&out).unwrap();
    let keys: Vec<_> = value.as_map().unwrap().iter().map(|(key, _)| key).collect();
    assert_eq!(keys.iter().map(|key| key.as_str().unwrap()).collect::<Vec<_>>(), ["code", "message", "retryable"]);
}

#[test]
fn optional_keys_may_be_missing_and_unknown_keys_are_ignored() {
    let error = Error::decode(b"\x82\xa4code\xa4mine\xa1x\x01").unwrap();
    assert_eq!(error, Error::new("mine", ""));
    let missing = Error::decode(b"\x81\xa1x\x01").unwrap_err();
    assert_eq!(missing.to_string(), "missing field `code` at offset 0");
}

#[test]
fn everything_survives_the_wire() {
    #[derive(Serialize)]
    struct Details {
        path: &'static str,
    }
    let error = Error::new(Code::new("disk_full"), "no room for 7 bytes")
        .with_retry_after_ms(20)
        .with_limit("quota", 5_u64)
        .with_incident("1f")
        .with_details(Details { path: "/x" });
    let mut out = Vec::new();
    codec::encode(&error, &mut out).unwrap();
    let decoded = Error::decode(&out).unwrap();
    assert_eq!(decoded, error);
    assert_eq!(*decoded.code(), "disk_full");
    assert_eq!(decoded.message(), "no room for 7 bytes");
    assert!(decoded.retryable());
    assert_eq!(decoded.retry_after_ms(), Some(20));
    assert_eq!(decoded.limit(), Some(("quota", 5)));
    assert_eq!(decoded.incident(), Some("1f"));
    assert_eq!(decoded.details(), Some(&Value::Map(vec![("path".into(), "/x".into())])));
    assert_eq!(decoded.to_string(), "disk_full: no room for 7 bytes");
}

#[test]
fn details_that_do_not_fit_are_left_out() {
    #[derive(Serialize, Deserialize)]
    struct Deep(Option<Box<(Deep,)>>);
    let deep = |depth: usize| (0..depth).fold(Deep(None), |inner, _| Deep(Some(Box::new((inner,)))));
    let kept = Error::failed("x").with_details(deep(63));
    assert!(kept.details().is_some());
    let mut out = Vec::new();
    codec::encode(&kept, &mut out).unwrap();
    assert_eq!(Error::decode(&out), Ok(kept));
    assert_eq!(Error::failed("x").with_details(deep(64)).details(), None);
}

#[test]
fn replies_and_announcements_are_whole_packets() {
    let call = Header {
        program: 5,
        version: 6,
        procedure: 7,
        packet_type: PacketType::CallWithMetadata,
        serial: 8,
        status: Status::Ok,
    };
    let error = Error::protocol("x");
    let mut out = b"earlier".to_vec();
    encode_reply_error(&call, &error, &mut out);
    let (length, header) = Header::decode(out[7..].first_chunk().unwrap());
    assert_eq!(length as usize, out.len() - 7);
    assert_eq!(header, Header { packet_type: PacketType::Reply, status: Status::Error, ..call });
    assert_eq!(Error::decode(&out[7 + 28..]).as_ref(), Ok(&error));

    out.clear();
    encode_announcement(&error, &mut out);
    let (length, header) = Header::decode(out.first_chunk().unwrap());
    assert_eq!((length as usize, header), (out.len(), Header::ANNOUNCEMENT));
    assert_eq!(Error::decode(&out[28..]), Ok(error));
}

#[test]
fn the_services_own_errors_read_well() {
    let second = Duration::from_secs(1);
    for (error, retryable, text) in [
        (
            Error::unknown_program(0x1234, 2),
            false,
            "unknown_program: no program has number 0x00001234 (version 2 was called)",
        ),
        (
            Error::unknown_version("echo", 0x6563_686f, 9, &[1, 2]),
            false,
            "unknown_version: program echo (0x6563686f) has no version 9; it has: 1, 2",
        ),
        (
            Error::too_large(200_u32, "max_packet", 100_u32),
            false,
            "too_large: the packet has 200 bytes, and max_packet is 100",
        ),
        (
            Error::overloaded("max_clients", 3_u64, None),
            true,
            "overloaded: the service is at its limit: max_clients is 3",
        ),
        (Error::shutting_down(), true, "shutting_down: the service is shutting down"),
        (
            Error::packet_timeout("packet_timeout", second),
            false,
            "packet_timeout: no whole packet arrived for 1000 ms, as packet_timeout allows",
        ),
        (
            Error::write_timeout("write_timeout", second),
            false,
            "write_timeout: replies were not read for 1000 ms, as write_timeout allows",
        ),
        (Error::from("as text"), false, "failed: as text"),
    ] {
        assert_eq!(error.to_string(), text);
        assert_eq!(error.retryable(), retryable, "{text}");
    }
    let error = Error::write_timeout("write_timeout", second);
    assert_eq!(error.limit(), Some(("write_timeout", 1000)));
    assert_eq!(Error::internal("a7").incident(), Some("a7"));
}

#[test]
fn codes_are_unique_and_documented() {
    let document = include_str!("../../docs/protocol.md");
    for code in Code::ALL {
        assert_eq!(Code::ALL.iter().filter(|other| *other == code).count(), 1);
        assert!(document.contains(&format!("| `{code}` |")), "{code} has no row in the document");
    }
}
