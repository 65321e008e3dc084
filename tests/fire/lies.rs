//! Lies: bytes that are not the packets that the service takes them for, and what it has to say to them.

use postroom_protocol::SplitError;
use rmpv::Value;

use crate::chance::Chance;
use crate::fuzz::model::{Seen, model};
use crate::guest::MAX_PACKET;

/// The code with which the service closes a connection where a packet was to begin and these bytes came, and nothing
/// behind them. None where it owes them more than that, such as a reply.
pub fn ending(bytes: &[u8]) -> Option<&'static str> {
    match model(bytes, MAX_PACKET).0.as_slice() {
        [] if !bytes.is_empty() => Some("packet_timeout"),
        [Seen::Error(SplitError::TooShort { .. })] => Some("protocol"),
        [Seen::TooLarge { header, skipped: false, .. }] if !header.is_call() => Some("too_large"),
        _ => None,
    }
}

/// Requests and notifications of MessagePack-RPC, the last of which may be cut short, for where packets are expected.
///
/// Their first byte makes a length of more than two gigabytes.
pub fn message_pack_rpc(chance: &mut Chance) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..chance.within(1..4) {
        let id = *chance.pick(&[0, 1, 0x7f, 0xffff, u64::from(u32::MAX)]);
        let params = Value::Array(vec![chance.within(0..1000).into(), "x".repeat(chance.below(100)).into()]);
        let message = match chance.one_in(3) {
            true => vec![2.into(), "directory.describe".into(), params],
            false => vec![0.into(), id.into(), "directory.describe".into(), params],
        };
        rmpv::encode::write_value(&mut bytes, &Value::Array(message)).unwrap();
    }
    if chance.one_in(2) {
        bytes.truncate(1 + chance.below(bytes.len() - 1));
    }
    bytes
}
