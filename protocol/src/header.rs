//! The 28 bytes in front of every packet.
//!
//! The splitter decodes them, the reader routes by them, and whoever answers derives the header of the answer.
//! Nothing here judges a header: any 28 bytes decode, because what is wrong with a packet can only be answered with its own header.

/// The length of a header, its length word included: the smallest packet.
pub const HEADER_LEN: usize = 28;

/// What a packet says, without its length and its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// The number of the program that is spoken to.
    pub program: u32,
    /// The version of the program, from 1.
    pub version: u32,
    /// The number of the procedure or event, from 1.
    pub procedure: i32,
    /// What kind of packet this is.
    pub packet_type: PacketType,
    /// The number that the caller gave the call; what answers it carries the same.
    pub serial: u32,
    /// Whether the payload is a result, an error, or a part of a stream.
    pub status: Status,
}

impl Header {
    /// The header of an announced close: an error reply that answers no call.
    pub const ANNOUNCEMENT: Self =
        Self { program: 0, version: 0, procedure: 0, packet_type: PacketType::Reply, serial: 0, status: Status::Error };

    /// The header as bytes, for a packet of `length` bytes in all.
    #[inline]
    #[must_use]
    pub fn encode(&self, length: u32) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0..4].copy_from_slice(&length.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.program.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.version.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.procedure.to_be_bytes());
        bytes[16..20].copy_from_slice(&self.packet_type.to_wire().to_be_bytes());
        bytes[20..24].copy_from_slice(&self.serial.to_be_bytes());
        bytes[24..28].copy_from_slice(&self.status.to_wire().to_be_bytes());
        bytes
    }

    /// The length of the whole packet, and its header. Any bytes decode.
    #[inline]
    #[must_use]
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> (u32, Self) {
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let header = Self {
            program: word(4),
            version: word(8),
            procedure: word(12).cast_signed(),
            packet_type: PacketType::from_wire(word(16).cast_signed()),
            serial: word(20),
            status: Status::from_wire(word(24).cast_signed()),
        };
        (word(0), header)
    }

    /// The header of the reply to the call with this header.
    #[inline]
    #[must_use]
    pub fn reply(&self, status: Status) -> Self {
        Self { packet_type: PacketType::Reply, status, ..*self }
    }

    /// Whether the packet is a call, with or without descriptors or metadata, and so must be answered.
    #[inline]
    #[must_use]
    pub fn is_call(&self) -> bool {
        use PacketType::{Call, CallWithFds, CallWithMetadata};
        matches!(self.packet_type, Call | CallWithFds | CallWithMetadata)
    }
}

/// What kind of packet a packet is.
///
/// [`PacketType::from_wire`] never makes an `Unknown` of a number that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PacketType {
    /// A call: the payload is the arguments.
    Call,
    /// The answer to a call: the payload is the result or the error.
    Reply,
    /// An event, or a keepalive packet.
    Event,
    /// A part of a stream. Reserved: streams are not served yet.
    Stream,
    /// A call that descriptors come with.
    CallWithFds,
    /// A reply that descriptors come with.
    ReplyWithFds,
    /// A hole in a stream. Reserved: streams are not served yet.
    StreamHole,
    /// A call with a map of metadata in front of the arguments.
    CallWithMetadata,
    /// The wish that an earlier call be given up.
    Cancel,
    /// More room in a stream. Reserved: streams are not served yet.
    StreamCredit,
    /// A number that this version does not know.
    Unknown(i32),
}

impl PacketType {
    /// The kind of packet that `word` stands for.
    #[inline]
    #[must_use]
    pub const fn from_wire(word: i32) -> Self {
        match word {
            0 => Self::Call,
            1 => Self::Reply,
            2 => Self::Event,
            3 => Self::Stream,
            4 => Self::CallWithFds,
            5 => Self::ReplyWithFds,
            6 => Self::StreamHole,
            16 => Self::CallWithMetadata,
            17 => Self::Cancel,
            18 => Self::StreamCredit,
            other => Self::Unknown(other),
        }
    }

    /// The word that stands for this kind of packet.
    #[inline]
    #[must_use]
    pub const fn to_wire(self) -> i32 {
        match self {
            Self::Call => 0,
            Self::Reply => 1,
            Self::Event => 2,
            Self::Stream => 3,
            Self::CallWithFds => 4,
            Self::ReplyWithFds => 5,
            Self::StreamHole => 6,
            Self::CallWithMetadata => 16,
            Self::Cancel => 17,
            Self::StreamCredit => 18,
            Self::Unknown(other) => other,
        }
    }

    /// Whether a count of descriptors stands in front of the payload, and descriptors follow the packet.
    #[inline]
    #[must_use]
    pub const fn has_fds(self) -> bool {
        matches!(self, Self::CallWithFds | Self::ReplyWithFds)
    }
}

/// What the payload of a packet is.
///
/// [`Status::from_wire`] never makes an `Unknown` of a number that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Arguments, a result, or an event.
    Ok,
    /// An error.
    Error,
    /// A part of a stream, with more to come.
    Continue,
    /// A number that this version does not know.
    Unknown(i32),
}

impl Status {
    /// The status that `word` stands for.
    #[inline]
    #[must_use]
    pub const fn from_wire(word: i32) -> Self {
        match word {
            0 => Self::Ok,
            1 => Self::Error,
            2 => Self::Continue,
            other => Self::Unknown(other),
        }
    }

    /// The word that stands for this status.
    #[inline]
    #[must_use]
    pub const fn to_wire(self) -> i32 {
        match self {
            Self::Ok => 0,
            Self::Error => 1,
            Self::Continue => 2,
            Self::Unknown(other) => other,
        }
    }
}
