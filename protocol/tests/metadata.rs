//! What the map in front of the arguments may be, and what it may cost.

use postroom_protocol::metadata::{self, MAX_METADATA, Metadata, MetadataError};
use postroom_protocol::split_metadata;
use proptest::prelude::*;

#[test]
fn the_arguments_start_where_the_map_ends() {
    let payload = b"\x82\xabdeadline_ms\xcd\x01\xf4\xa3key\xa1k\x92\x01\x02";
    let (metadata, length) = split_metadata(payload).unwrap();
    assert_eq!(metadata, Metadata { deadline_ms: Some(500), trace: None, key: Some(b"k".to_vec()) });
    assert_eq!(payload[length..], *b"\x92\x01\x02");
    assert_eq!(split_metadata(b"\x80"), Ok((Metadata::default(), 1)));
}

#[test]
fn unknown_keys_and_nil_are_passed_over_and_the_last_of_a_key_counts() {
    let payload = b"\x85\xa5other\x91\x81\x01\x90\x07\x08\xa5trace\xc0\xa3key\xa1a\xa3key\xc4\x01b";
    let (metadata, length) = split_metadata(payload).unwrap();
    assert_eq!(metadata.key.as_deref(), Some(&b"b"[..]));
    assert_eq!(metadata.trace, None);
    assert_eq!(length, payload.len());
}

#[test]
fn errors_say_what_is_wrong() {
    for (payload, message) in [
        (&b""[..], "metadata: the payload does not start with a map"),
        (b"\xc0", "metadata: the payload does not start with a map"),
        (b"\x90", "metadata: the payload does not start with a map"),
        (b"\x81\xabdeadline_ms\xff", "metadata: `deadline_ms` is not an unsigned integer of 32 bits"),
        (b"\x81\xabdeadline_ms\xcf\0\0\0\x01\0\0\0\0", "metadata: `deadline_ms` is not an unsigned integer of 32 bits"),
        (b"\x81\xa5trace\xa1\xff", "metadata: `trace` is not a string"),
        (b"\x81\xa3key\x01", "metadata: `key` is not a bin or a string"),
        (b"\x81\xa3key\xa5a", "metadata: truncated: the payload ends within the value at offset 6"),
        (b"\x81\xa1x\x91\x91\x91\x90", "metadata: nesting deeper than 4"),
    ] {
        let error = split_metadata(payload).unwrap_err();
        assert_eq!(error.to_string(), message, "{payload:x?}");
    }
    assert!(split_metadata(b"\x81\xa1x\x91\x91\x90").is_ok(), "depth 4");
}

#[test]
fn the_map_ends_within_the_limit() {
    // A map of one entry whose value is padding, so that it has exactly `length` bytes.
    let map = |length: usize| {
        let padding = length - 6;
        let mut payload = b"\x81\xa1x\xc5".to_vec();
        payload.extend((padding as u16).to_be_bytes());
        payload.resize(length, 0);
        payload
    };
    let (_, length) = split_metadata(&map(MAX_METADATA)).unwrap();
    assert_eq!(length, MAX_METADATA);
    let mut with_arguments = map(MAX_METADATA);
    with_arguments.extend([0x91; 100]);
    assert_eq!(split_metadata(&with_arguments).unwrap().1, MAX_METADATA);

    let error = split_metadata(&map(MAX_METADATA + 1)).unwrap_err();
    assert_eq!(error, MetadataError::TooLong);
    assert_eq!(error.to_string(), "metadata: the map does not end within 4096 bytes");
    let lying = [&b"\xdf\xff\xff\xff\xff"[..], &[0; 5000]].concat();
    assert_eq!(split_metadata(&lying).unwrap_err(), MetadataError::TooLong);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn metadata_survives_encoding(
        deadline_ms in any::<Option<u32>>(),
        trace in prop::option::of(".{0,300}"),
        key in prop::option::of(prop::collection::vec(any::<u8>(), 0..600)),
        arguments in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let metadata = Metadata { deadline_ms, trace, key };
        let mut payload = Vec::new();
        metadata::encode(&metadata, &mut payload);
        let length = payload.len();
        payload.extend(arguments);
        prop_assert_eq!(split_metadata(&payload), Ok((metadata, length)));
    }

    #[test]
    fn garbage_never_panics(payload in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = split_metadata(&payload);
    }
}
