//! Which format a connection speaks, from its first byte.

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

impl Format {
    /// The format of a connection whose first byte is `byte`: `0x93` and `0x94`, arrays of three and four, are
    /// MessagePack-RPC, and every other byte begins a packet.
    ///
    /// A packet begins with its length, most significant byte first. Of the packets that any configuration allows,
    /// at most 1 GiB, that byte is at most `0x40`. What begins with another byte is text such as HTTP's, or a length
    /// over every limit: the splitter says so in words of packets, so there is no third case.
    #[must_use]
    pub const fn of_first_byte(byte: u8) -> Self {
        match byte {
            NOTIFICATION | FOUR => Self::MessagePackRpc,
            _ => Self::Packets,
        }
    }
}
