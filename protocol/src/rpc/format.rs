//! Which format a connection speaks, from its first byte.

use std::fmt;

/// An array of three: a notification.
pub(super) const NOTIFICATION: u8 = 0x93;

/// An array of four: a request or a response.
pub(super) const FOUR: u8 = 0x94;

/// A format that a connection can speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Packets, which begin with their length.
    Packets,
    /// MessagePack-RPC, whose messages are arrays of three or four.
    MessagePackRpc,
}

/// The first byte of the greatest length that a packet may have under any configuration: 1 GiB.
const MAX_LENGTH_BYTE: u8 = 0x40;

impl Format {
    /// The format of a connection whose first byte is `byte`.
    ///
    /// A packet begins with its length, most significant byte first. Up to 1 GiB that byte is at most `0x40`,
    /// so it cannot be confused with the `0x93` and `0x94` of arrays of three and four.
    ///
    /// # Errors
    ///
    /// For every other byte. `0x41` to `0x92` and `0x95` to `0xff` are neither the length of a packet that any
    /// service takes nor a message. Text such as HTTP's is among them.
    /// Who would rather refuse such a connection in words of packets may treat it as [`Format::Packets`]:
    /// the splitter reports a packet that is too large.
    pub const fn of_first_byte(byte: u8) -> Result<Self, UnknownFormat> {
        match byte {
            0..=MAX_LENGTH_BYTE => Ok(Self::Packets),
            NOTIFICATION | FOUR => Ok(Self::MessagePackRpc),
            _ => Err(UnknownFormat { byte }),
        }
    }
}

/// A first byte that no format begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownFormat {
    /// The byte.
    pub byte: u8,
}

impl fmt::Display for UnknownFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the connection begins with {:#04x}; a packet begins with 0x00 to {MAX_LENGTH_BYTE:#04x}, \
             and a MessagePack-RPC message with {NOTIFICATION:#04x} or {FOUR:#04x}",
            self.byte
        )
    }
}

impl std::error::Error for UnknownFormat {}
