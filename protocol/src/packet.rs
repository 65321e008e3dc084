//! Helpers that build packets at the end of an output buffer.
//!
//! A packet's length stands first but is known last, so a payload is encoded straight behind a header whose length word is patched afterwards.
//! Nothing is copied twice, and many packets can share one buffer and one write.

use crate::header::{HEADER_LEN, Header};

/// Appends `header` with its length still open; returns where the packet starts, for [`finish`].
#[inline]
pub fn begin(header: &Header, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&header.encode(0));
    start
}

/// Ends the packet that starts at `start`: everything behind it in `out` belongs to it.
///
/// A packet of 4 GiB or more cannot be expressed. Whoever builds packets keeps them under a limit far below;
/// here such a length saturates, and the receiver refuses the packet.
///
/// # Panics
///
/// If `start` is not what [`begin`] returned for `out`.
#[inline]
pub fn finish(start: usize, out: &mut [u8]) {
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Appends a whole packet whose payload is at hand.
#[inline]
pub fn encode_packet(header: &Header, payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(HEADER_LEN + payload.len());
    let start = begin(header, out);
    out.extend_from_slice(payload);
    finish(start, out);
}
