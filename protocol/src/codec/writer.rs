//! Single values of MessagePack, each in its shortest form.
//!
//! What is written without serde is written with these: the metadata, and the messages around payloads.

pub(crate) fn put_uint(value: u64, out: &mut Vec<u8>) {
    match value {
        0..=0x7f => out.push(value as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, value as u8]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.extend_from_slice(&(value as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend_from_slice(&(value as u32).to_be_bytes());
        }
        _ => {
            out.push(0xcf);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

pub(crate) fn put_str(text: &str, out: &mut Vec<u8>) {
    put_str_length(text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

/// The length of a string, whose bytes must follow.
pub(crate) fn put_str_length(length: usize, out: &mut Vec<u8>) {
    match length {
        0..32 => out.push(0xa0 | length as u8),
        _ => put_length(length, [0xd9, 0xda, 0xdb], out),
    }
}

pub(crate) fn put_bin(bytes: &[u8], out: &mut Vec<u8>) {
    put_length(bytes.len(), [0xc4, 0xc5, 0xc6], out);
    out.extend_from_slice(bytes);
}

/// A length behind the marker for its width. Lengths of 4 GiB or more do not occur within a packet.
fn put_length(length: usize, markers: [u8; 3], out: &mut Vec<u8>) {
    match length {
        0..=0xff => out.extend_from_slice(&[markers[0], length as u8]),
        0x100..=0xffff => {
            out.push(markers[1]);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(markers[2]);
            out.extend_from_slice(&(length as u32).to_be_bytes());
        }
    }
}
