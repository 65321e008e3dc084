//! What can be said of a message that is broken or refused: its type, and the id to answer it with.

use super::format::{FOUR, NOTIFICATION};
use crate::codec::{Reader, Token};

/// How many bytes of a message its head lies in, if it has one: the array, its type and its id.
///
/// A number has at most nine bytes, however wastefully it is encoded.
pub(super) const HEAD_LEN: usize = 1 + 9 + 9;

/// What kind of message a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// A call that wants an answer.
    Request,
    /// The answer to a request.
    Response,
    /// A call that wants none, an event, or an announced close.
    Notification,
}

impl MessageType {
    /// The type that `number` stands for, if it is one.
    #[must_use]
    pub const fn from_wire(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Request),
            1 => Some(Self::Response),
            2 => Some(Self::Notification),
            _ => None,
        }
    }
}

/// As much as could be read of the front of a message that is broken or refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The type, where it could be read and is one.
    pub message_type: Option<MessageType>,
    /// The id, where it could be read. A notification has none.
    pub msgid: Option<u32>,
}

impl Head {
    /// The id to answer with: that of a request. Nothing else is answered.
    #[must_use]
    pub fn answerable(&self) -> Option<u32> {
        self.msgid.filter(|_| self.message_type == Some(MessageType::Request))
    }

    /// Reads from the first [`HEAD_LEN`] bytes of a message, or from as many as there are.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let Some((&first @ (NOTIFICATION | FOUR), rest)) = bytes.split_first() else {
            return Self::default();
        };
        // What is behind the numbers may be missing or broken, so they are read one by one.
        let mut reader = Reader::new(rest);
        let message_type = number(&mut reader).and_then(MessageType::from_wire);
        let msgid = match message_type {
            Some(MessageType::Request | MessageType::Response) if first == FOUR => {
                number(&mut reader).and_then(|id| u32::try_from(id).ok())
            }
            _ => None,
        };
        Self { message_type, msgid }
    }
}

/// The number that comes next, if it is one from 0.
pub(super) fn number(reader: &mut Reader<'_>) -> Option<u64> {
    match reader.token().ok()? {
        Token::Unsigned(value) => Some(value),
        Token::Signed(value) => u64::try_from(value).ok(),
        _ => None,
    }
}
