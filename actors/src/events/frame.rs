//! The bytes of one event for one client, around the value, which is encoded once for all.

use bytes::Bytes;
use postroom_protocol::rpc::{self, Format};
use postroom_protocol::{HEADER_LEN, Header, PacketType, Status, event};

use crate::events::Described;
use crate::program::Codec;

/// What one subscription's events look like.
#[derive(Debug)]
pub(crate) enum Frame {
    /// A packet with this header, for a program with this codec.
    Packet(Header, Codec),
    /// A notification of MessagePack-RPC with this name.
    Message(Box<str>),
}

/// A value from this size on is not copied: it stays in the buffer that it shares with other clients.
const OWN_PIECE: usize = 4096;

/// Whole packets for one client, as pieces.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    done: Vec<Bytes>,
    /// The last of them, while it grows.
    open: Vec<u8>,
    length: usize,
}

impl Pieces {
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// All of them, in order.
    pub(crate) fn into_bytes(mut self) -> impl Iterator<Item = Bytes> {
        self.close();
        self.done.into_iter()
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.done.push(std::mem::take(&mut self.open).into());
        }
    }
}

impl Frame {
    pub(crate) fn new(event: &Described, serial: u32, format: Format) -> Self {
        if format == Format::MessagePackRpc {
            return Self::Message(event.name.as_str().into());
        }
        let header = Header {
            program: event.program,
            version: event.version,
            procedure: event.number,
            packet_type: PacketType::Event,
            serial,
            status: Status::Ok,
        };
        Self::Packet(header, event.codec)
    }

    /// Adds an event, before which so many were dropped.
    pub(crate) fn put(&self, value: &Bytes, lost: u64, out: &mut Pieces) {
        let start = out.open.len();
        let (header, codec) = match self {
            Self::Packet(header, codec) => (header, codec),
            Self::Message(name) => {
                let (program, event) = name.rsplit_once('.').unwrap_or(("", name));
                rpc::encode::event(program, event, value, lost, &mut out.open);
                out.length += out.open.len() - start;
                return;
            }
        };
        out.open.extend_from_slice(&header.encode(0));
        match codec {
            Codec::MessagePack => event::put_head(lost, &mut out.open),
            // The value alone: its form has no place for what was dropped.
            Codec::Xdr => {}
        }
        let length = out.open.len() - start + value.len();
        // The publisher has seen to it that it is at most `max_packet`, which is a u32.
        out.open[start..start + 4].copy_from_slice(&(length as u32).to_be_bytes());
        if value.len() < OWN_PIECE {
            out.open.extend_from_slice(value);
        } else {
            out.close();
            out.done.push(value.clone());
        }
        out.length += length;
    }
}

/// About what an event costs its client's queue and its output.
pub(crate) fn cost(value: &Bytes) -> u64 {
    (HEADER_LEN + event::MAX_HEAD + value.len()) as u64
}

#[cfg(test)]
mod tests {
    use postroom_protocol::codec;

    use super::*;
    use crate::events::Kind;

    type Value = Vec<u8>;

    #[test]
    fn events_lie_behind_each_other_and_big_values_are_shared() {
        let event = Described {
            name: "a.b".to_owned(),
            program: 7,
            version: 2,
            number: 3,
            value: Kind::of::<Value>(),
            codec: Codec::MessagePack,
        };
        let frame = Frame::new(&event, 9, Format::Packets);
        let mut pieces = Pieces::default();
        let values: Vec<Value> = vec![vec![1; 3], vec![2; 2 * OWN_PIECE], vec![3; 3]];
        let mut shared = Vec::new();
        for (lost, value) in (0..).zip(&values) {
            let mut encoded = Vec::new();
            codec::encode(value, &mut encoded).unwrap();
            let encoded = Bytes::from(encoded);
            frame.put(&encoded, lost, &mut pieces);
            shared.push(encoded);
        }
        let length = pieces.len();
        let pieces: Vec<Bytes> = pieces.into_bytes().collect();
        assert_eq!(pieces[1].as_ptr(), shared[1].as_ptr());
        let all = pieces.concat();
        assert_eq!(all.len(), length);
        let mut rest = &all[..];
        for (lost, value) in (0..).zip(values) {
            let (length, header) = Header::decode(rest.first_chunk().unwrap());
            assert_eq!((header.program, header.version, header.procedure, header.serial), (7, 2, 3, 9));
            assert_eq!(header.packet_type, PacketType::Event);
            let payload: event::Payload<Value> = codec::decode(&rest[HEADER_LEN..length as usize]).unwrap();
            assert_eq!(payload, event::Payload { value, lost });
            rest = &rest[length as usize..];
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn an_event_in_xdr_is_its_value_alone() {
        let (name, value) = ("a.b".to_owned(), Kind::of::<Value>());
        let event = Described { name, program: 7, version: 2, number: 3, value, codec: Codec::Xdr };
        let mut pieces = Pieces::default();
        Frame::new(&event, 9, Format::Packets).put(&Bytes::from_static(&[0, 0, 0, 5]), 4, &mut pieces);
        let packet = pieces.into_bytes().collect::<Vec<_>>().concat();
        assert_eq!((packet[..4].to_vec(), packet[HEADER_LEN..].to_vec()), (vec![0, 0, 0, 32], vec![0, 0, 0, 5]));
    }
}
