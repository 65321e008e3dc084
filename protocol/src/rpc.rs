//! MessagePack-RPC, the second format on the same sockets.
//!
//! A client that has a MessagePack library needs nothing else: every message is one MessagePack array.
//! This is the format alone; the service's readers decide what becomes of messages.
//!
//! | message | array |
//! |---|---|
//! | request | `[0, msgid, method, params]` |
//! | response | `[1, msgid, error, result]` |
//! | notification | `[2, method, params]` |
//!
//! Readers find messages with a [`Scanner`] and take them apart with [`Message::parse`], [`Method::parse`]
//! and [`arguments`]; who answers writes with [`encode`]. Nothing here decodes arguments, results or errors:
//! that is the [`codec`](crate::codec)'s.
//!
//! # Example
//!
//! ```
//! use postroom_protocol::codec;
//! use postroom_protocol::rpc::{Message, Method, Scanner, Step, arguments, encode};
//!
//! let mut scanner = Scanner::new(1024);
//! let mut input = &b"\x94\x00\x01\xabecho.mirror\x91\x07"[..];
//! let Ok(Step::Message(message)) = scanner.next(&mut input) else { panic!("a message lies whole in the input") };
//! let Ok(Message::Request { msgid, method, params }) = Message::parse(&message) else { panic!("it is a request") };
//! assert_eq!(Method::parse(method).unwrap(), Method { program: "echo", version: None, procedure: "mirror" });
//! let (n,): (u32,) = codec::decode(arguments(params).unwrap()).unwrap();
//!
//! let mut out = Vec::new();
//! let start = encode::begin_response(msgid, &mut out);
//! codec::encode(&n, &mut out).unwrap();
//! encode::finish_response(start, &mut out);
//! assert_eq!(out, b"\x94\x01\x01\xc0\x07");
//! ```

pub mod encode;

mod format;
mod head;
mod message;
mod method;
mod params;
mod scanner;
mod step;
mod walk;

use crate::codec::MAX_DEPTH;

pub use format::Format;
pub use head::{Head, MessageType};
pub use message::{Message, MessageError, MessageErrorKind};
pub use method::{Method, MethodError};
pub use params::{ParamsError, arguments};
pub use scanner::Scanner;
pub use step::{ScanError, Step, TooLarge};

/// How many arrays and maps may be nested in a message.
///
/// Arguments may be nested as deep as in a packet, and around them are the message and the array of one map.
pub const MAX_MESSAGE_DEPTH: usize = MAX_DEPTH + 2;
