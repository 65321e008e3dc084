//! The constants of the format.
//!
//! They are bounds that both sides know without asking.
//! Limits that a service's owner may choose are not here but in the service's configuration;
//! [`DEFAULT_MAX_PACKET`] is only the default of one of them.

/// The greatest packet, its length word included, unless the service is configured otherwise.
///
/// This is 32 MiB of packet behind a length word of 4 bytes, as in libvirt.
pub const DEFAULT_MAX_PACKET: u32 = 33_554_436;

/// The greatest number of descriptors that can come with one packet.
pub const MAX_FDS: u32 = 32;

/// How many times over the limit a packet may be for its body to be skipped.
///
/// Beyond that the connection ends: reading the body would cost more than a new connection.
pub const SKIP_FACTOR: u32 = 16;

/// The length of the word that counts descriptors, in a packet with descriptors.
pub const FD_COUNT_LEN: usize = 4;

/// How much of a packet must have arrived before the splitter lends room to read into.
///
/// Smaller packets are cheaper to copy from a shared read buffer than to read for themselves.
pub const ROOM_FROM: usize = 64 * 1024;
