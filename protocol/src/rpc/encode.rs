//! Helpers that build messages at the end of an output buffer.
//!
//! A message does not say how long it is, so a result is encoded straight behind the front of its response.
//! Nothing is copied twice, and many messages can share one buffer and one write.
//! Every head is in its shortest form.

use super::format::{FOUR, NOTIFICATION};
use crate::codec::{put_str, put_str_length, put_uint};
use crate::error::{Error, encode_payload};

const NIL: u8 = 0xc0;
const EMPTY_MAP: u8 = 0x80;
const ARRAY: u8 = 0x90;

/// Appends the front of the response to the request `msgid`; returns where it starts, for [`finish_response`].
///
/// The result must follow: one MessagePack value, or nothing for nil. If it cannot be encoded after all,
/// cut `out` back to the returned length and append an [`error`] instead.
#[inline]
pub fn begin_response(msgid: u32, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[FOUR, 1]);
    put_uint(msgid.into(), out);
    out.push(NIL);
    start
}

/// Ends the response that starts at `start`: everything behind its front is the result, and nothing is nil.
///
/// # Panics
///
/// If `start` is not what [`begin_response`] returned for `out`.
#[inline]
pub fn finish_response(start: usize, out: &mut Vec<u8>) {
    let msgid_len = match out[start + 2] {
        0xcc => 2,
        0xcd => 3,
        0xce => 5,
        _ => 1,
    };
    or_default(start + 2 + msgid_len + 1, NIL, out);
}

/// Appends the response to the request `msgid`, whose result is at hand. No bytes stand for nil.
#[inline]
pub fn response(msgid: u32, result: &[u8], out: &mut Vec<u8>) {
    let start = begin_response(msgid, out);
    out.extend_from_slice(result);
    finish_response(start, out);
}

/// Appends the response that the request `msgid` has failed.
pub fn error(msgid: u32, error: &Error, out: &mut Vec<u8>) {
    out.extend_from_slice(&[FOUR, 1]);
    put_uint(msgid.into(), out);
    put_error(error, out);
    out.push(NIL);
}

/// Appends a request whose params are at hand: one MessagePack value, or no bytes for no arguments.
pub fn request(msgid: u32, method: &str, params: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&[FOUR, 0]);
    put_uint(msgid.into(), out);
    put_str(method, out);
    put_params(params, out);
}

/// Appends a notification whose params are at hand: one MessagePack value, or no bytes for no arguments.
pub fn notification(method: &str, params: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&[NOTIFICATION, 2]);
    put_str(method, out);
    put_params(params, out);
}

/// Appends the notification of an event: its value, and how many events were dropped since the last one.
///
/// The value is one MessagePack value, or no bytes for nil.
pub fn event(program: &str, event: &str, value: &[u8], lost: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[NOTIFICATION, 2]);
    put_str_length(program.len() + 1 + event.len(), out);
    out.extend_from_slice(program.as_bytes());
    out.push(b'.');
    out.extend_from_slice(event.as_bytes());
    out.push(ARRAY | 2);
    let start = out.len();
    out.extend_from_slice(value);
    or_default(start, NIL, out);
    put_uint(lost, out);
}

/// Appends the announced close: the last message of its connection.
pub fn close(error: &Error, out: &mut Vec<u8>) {
    out.extend_from_slice(&[NOTIFICATION, 2]);
    put_str("close", out);
    out.push(ARRAY | 1);
    put_error(error, out);
}

fn put_params(params: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(params);
    or_default(start, ARRAY, out);
}

fn put_error(error: &Error, out: &mut Vec<u8>) {
    let start = out.len();
    encode_payload(error, out);
    // Errors always encode. Were one not to, the message must still be whole, and must not look like a success.
    or_default(start, EMPTY_MAP, out);
}

/// Appends `default` if nothing stands behind `start`.
fn or_default(start: usize, default: u8, out: &mut Vec<u8>) {
    if out.len() == start {
        out.push(default);
    }
}
