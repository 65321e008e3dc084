//! The Postroom wire: packets, headers, limits, errors and payload codecs.
//!
//! This crate is shared by the service and by clients.
//! It is pure: it owns no socket, no clock and no thread, and it reads no file and no environment.
//! Bytes go in, packets come out, and the other way round.
//!
//! # Layout
//!
//! From the socket inwards:
//!
//! - [`address`]: where a service listens and a client connects, as people write it.
//! - [`splitter`]: bytes in any portions in, whole packets out.
//! - [`header`]: the 28 bytes in front of every packet.
//! - [`packet`]: helpers that build packets in an output buffer.
//! - [`metadata`]: the map in front of the arguments of a call with metadata.
//! - [`rpc`]: MessagePack-RPC, the second format, with its own scanner, heads and encoders.
//! - [`codec`]: MessagePack payloads from and to Rust values; [`xdr`]: the same for XDR payloads.
//! - [`error`]: the error of a call, and how it travels; [`code`]: the stable codes of errors.
//! - [`event`]: the payload of an event, around a value that is encoded already.
//! - [`libvirt`]: the error that libvirt's clients expect, for programs whose codec is XDR.
//! - [`keepalive`]: the packets that ask whether the peer is there.
//! - [`limits`]: the constants of the format.
//!
//! # Example
//!
//! ```
//! use postroom_protocol::{Header, PacketType, Splitter, Status, Step, codec, packet};
//!
//! let header = Header {
//!     program: 0x6563_686f,
//!     version: 1,
//!     procedure: 2,
//!     packet_type: PacketType::Call,
//!     serial: 1,
//!     status: Status::Ok,
//! };
//! let mut bytes = Vec::new();
//! let start = packet::begin(&header, &mut bytes);
//! codec::encode("hello", &mut bytes).unwrap();
//! packet::finish(start, &mut bytes);
//!
//! let mut splitter = Splitter::new(1024);
//! let mut input = &bytes[..];
//! match splitter.next(&mut input, 0) {
//!     Ok(Step::Packet(packet)) => {
//!         assert_eq!(packet.header, header);
//!         assert_eq!(codec::decode::<String>(&packet.payload).unwrap(), "hello");
//!     }
//!     other => panic!("expected a packet, got {other:?}"),
//! }
//! ```

#![forbid(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

pub mod address;
pub mod splitter;

pub mod header;
pub mod packet;
pub mod rpc;

pub mod codec;
pub mod metadata;
pub mod xdr;

pub mod code;
pub mod error;

pub mod event;
pub mod keepalive;
pub mod libvirt;
pub mod limits;

pub use address::{Address, AddressError};
pub use code::Code;
pub use codec::{DecodeError, EncodeError};
pub use error::{Error, encode_announcement, encode_reply_error};
pub use header::{HEADER_LEN, Header, PacketType, Status};
pub use metadata::{Metadata, MetadataError, split_metadata};
pub use splitter::{Assembled, Packet, Payload, SplitError, Splitter, Step, TooLarge};
pub use xdr::{XdrError, XdrErrorKind};
