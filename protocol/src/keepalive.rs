//! The packets that ask whether the peer is still there, and answer that it is.
//!
//! They are libvirt's, byte for byte: events of a program of their own, without payload.
//! When to ask and how long to wait is the business of whoever owns a clock.

use crate::header::{HEADER_LEN, Header, PacketType, Status};

/// The number of the keepalive program: `keep` in ASCII.
pub const PROGRAM: u32 = 0x6b65_6570;
/// The one version of the keepalive program.
pub const VERSION: u32 = 1;
/// The number of the event that asks.
pub const PING: i32 = 1;
/// The number of the event that answers.
pub const PONG: i32 = 2;

/// Which of the two keepalive packets a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keepalive {
    /// The peer asks; it must be answered with a pong at once.
    Ping,
    /// The peer answers.
    Pong,
}

/// The packet that asks.
#[must_use]
pub fn ping() -> [u8; HEADER_LEN] {
    header(PING).encode(HEADER_LEN as u32)
}

/// The packet that answers.
#[must_use]
pub fn pong() -> [u8; HEADER_LEN] {
    header(PONG).encode(HEADER_LEN as u32)
}

/// The keepalive packet that `header` belongs to, if it does.
///
/// Serial, status and payload do not matter: being generous costs nothing, and a dropped ping costs the connection.
#[inline]
#[must_use]
pub fn classify(header: &Header) -> Option<Keepalive> {
    if header.program != PROGRAM || header.version != VERSION || header.packet_type != PacketType::Event {
        return None;
    }
    match header.procedure {
        PING => Some(Keepalive::Ping),
        PONG => Some(Keepalive::Pong),
        _ => None,
    }
}

fn header(procedure: i32) -> Header {
    Header {
        program: PROGRAM,
        version: VERSION,
        procedure,
        packet_type: PacketType::Event,
        serial: 0,
        status: Status::Ok,
    }
}
