//! What a client sends, on its way to become packets or messages.
//!
//! Its first byte decides which, for as long as the connection lasts. What was read of one that is not whole is held
//! here, bounded by `max_packet`; nothing is held between two of them.

use postroom_protocol::Splitter;
use postroom_protocol::rpc::{Format, Scanner};

/// What finds where packets or messages end.
#[derive(Debug)]
pub(super) enum Incoming {
    /// Nothing has come yet, or nothing is taken any more.
    Nothing,
    Packets(Splitter),
    /// In a box: it is big, and most clients have none.
    Messages(Box<Scanner>),
}

impl Incoming {
    /// For a connection of this format, which can bring descriptors or not.
    pub(super) fn new(format: Format, max_packet: u32, brings_fds: bool) -> Self {
        match format {
            Format::MessagePackRpc => Self::Messages(Box::new(Scanner::new(max_packet))),
            Format::Packets if brings_fds => Self::Packets(Splitter::new(max_packet)),
            Format::Packets => Self::Packets(Splitter::new(max_packet).without_fds()),
        }
    }

    /// Whether some but not all bytes of a packet or message have come.
    pub(super) fn is_mid_packet(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::Packets(splitter) => splitter.is_mid_packet(),
            Self::Messages(scanner) => scanner.is_mid_packet(),
        }
    }

    /// Room to read straight into a big packet or message.
    pub(super) fn room(&mut self) -> Option<&mut [u8]> {
        match self {
            Self::Nothing => None,
            Self::Packets(splitter) => splitter.room(),
            Self::Messages(scanner) => scanner.room(),
        }
    }

    /// So many bytes were read into the room.
    pub(super) fn filled(&mut self, bytes: usize) {
        match self {
            Self::Nothing => {}
            Self::Packets(splitter) => splitter.filled(bytes),
            Self::Messages(scanner) => scanner.filled(bytes),
        }
    }
}
