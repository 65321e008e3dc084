//! A whole message, taken apart without copying.
//!
//! What is wrong here is wrong with one message only: its end is known, so the connection can go on,
//! and where the id could be read the message can be answered.

use std::fmt;

use super::format::{FOUR, NOTIFICATION};
use super::head::{Head, MessageType, number};
use crate::codec::{DecodeError, MAX_DEPTH, Reader, Token};

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A call that wants an answer.
    Request {
        /// The number that the caller gave the call; the response carries the same.
        msgid: u32,
        /// What is called; see [`Method::parse`](super::Method::parse).
        method: &'a str,
        /// The arguments as sent; see [`arguments`](super::arguments).
        params: &'a [u8],
    },
    /// The answer to a request.
    Response {
        /// The number of the request.
        msgid: u32,
        /// The result, or the error where that is not nil, as MessagePack.
        outcome: Result<&'a [u8], &'a [u8]>,
    },
    /// A call that wants no answer, an event, or an announced close.
    Notification {
        /// What is called.
        method: &'a str,
        /// The arguments as sent.
        params: &'a [u8],
    },
}

impl<'a> Message<'a> {
    /// Takes a message apart that a [`Scanner`](super::Scanner) has yielded.
    ///
    /// The last element is whatever follows those in front of it, and is not looked at:
    /// the scanner knows that it is one value, and who decodes it notices otherwise.
    ///
    /// # Errors
    ///
    /// When the message is no request, response or notification. The error carries the id where it could be read.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, MessageError> {
        parse(bytes).map_err(|kind| MessageError { head: Head::read(bytes), kind })
    }
}

fn parse(bytes: &[u8]) -> Result<Message<'_>, MessageErrorKind> {
    let (length, rest) = match bytes.split_first() {
        Some((&NOTIFICATION, rest)) => (3, rest),
        Some((&FOUR, rest)) => (4, rest),
        _ => return Err(MessageErrorKind::NotAMessage),
    };
    let mut reader = Reader::new(rest);
    let message_type = number(&mut reader).and_then(MessageType::from_wire).ok_or(MessageErrorKind::UnknownType)?;
    match (message_type, length) {
        (MessageType::Notification, 3) => {
            let method = method(&mut reader)?;
            Ok(Message::Notification { method, params: last(rest, &reader)? })
        }
        (MessageType::Request, 4) => {
            let msgid = msgid(&mut reader)?;
            let method = method(&mut reader)?;
            Ok(Message::Request { msgid, method, params: last(rest, &reader)? })
        }
        (MessageType::Response, 4) => {
            let msgid = msgid(&mut reader)?;
            let start = reader.offset();
            reader.skip(MAX_DEPTH).map_err(MessageErrorKind::Malformed)?;
            let error = &rest[start..reader.offset()];
            let result = last(rest, &reader)?;
            Ok(Message::Response { msgid, outcome: if error == [0xc0] { Ok(result) } else { Err(error) } })
        }
        (message_type, length) => Err(MessageErrorKind::WrongLength { message_type, length }),
    }
}

fn msgid(reader: &mut Reader<'_>) -> Result<u32, MessageErrorKind> {
    number(reader).and_then(|id| u32::try_from(id).ok()).ok_or(MessageErrorKind::BadId)
}

fn method<'a>(reader: &mut Reader<'a>) -> Result<&'a str, MessageErrorKind> {
    match reader.token() {
        Ok(Token::Str(bytes)) => str::from_utf8(bytes).map_err(|_| MessageErrorKind::BadMethod),
        Ok(_) => Err(MessageErrorKind::BadMethod),
        Err(error) => Err(MessageErrorKind::Malformed(error)),
    }
}

/// What `reader` has not read of `bytes`.
fn last<'a>(bytes: &'a [u8], reader: &Reader<'_>) -> Result<&'a [u8], MessageErrorKind> {
    match &bytes[reader.offset()..] {
        [] => Err(MessageErrorKind::Truncated),
        last => Ok(last),
    }
}

/// A message that cannot be taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageError {
    /// As much as could be read of its front.
    pub head: Head,
    /// What is wrong.
    pub kind: MessageErrorKind,
}

/// What is wrong with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageErrorKind {
    /// It is no array of three or four.
    NotAMessage,
    /// Its type is not 0, 1 or 2.
    UnknownType,
    /// It has three elements and should have four, or the other way round.
    WrongLength {
        /// Its type.
        message_type: MessageType,
        /// How many elements it has.
        length: usize,
    },
    /// Its id is no unsigned integer of 32 bits.
    BadId,
    /// Its method is no string, or not UTF-8.
    BadMethod,
    /// It ends before its last element.
    Truncated,
    /// What stands in front of the last element is no MessagePack, or is nested too deep.
    Malformed(DecodeError),
}

impl MessageError {
    /// The id of the message, where it could be read.
    #[must_use]
    pub fn msgid(&self) -> Option<u32> {
        self.head.msgid
    }
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            MessageErrorKind::NotAMessage => f.write_str("the message is no array of three or four"),
            MessageErrorKind::UnknownType => {
                f.write_str("the type of the message is not 0 (request), 1 (response) or 2 (notification)")
            }
            MessageErrorKind::WrongLength { message_type, length } => {
                let (what, expected) = match message_type {
                    MessageType::Request => ("request", 4),
                    MessageType::Response => ("response", 4),
                    MessageType::Notification => ("notification", 3),
                };
                write!(f, "a {what} has {expected} elements, and this one has {length}")
            }
            MessageErrorKind::BadId => f.write_str("the id of the message is no unsigned integer of 32 bits"),
            MessageErrorKind::BadMethod => f.write_str("the method is no string of UTF-8"),
            MessageErrorKind::Truncated => f.write_str("the message ends before its last element"),
            MessageErrorKind::Malformed(error) => write!(f, "the message cannot be read: {error}"),
        }
    }
}

impl std::error::Error for MessageError {}
