//! What a connection begins with: the greeting is sent, and whatever is no answer to it is no Postroom.
//!
//! The conversation asks it about each packet until the greeting is answered.

use postroom_protocol::{Error, Header, Payload, Status, codec};

use crate::directory::{self, ServiceInfo};

/// How much of what came first is shown when it is not Postroom's.
const MAX_SAMPLE: usize = 40;

/// How far the greeting is.
#[derive(Debug)]
pub(super) enum Greeting {
    /// It was sent. This is the start of what came back.
    Sent(Vec<u8>),
    /// The service has answered.
    Answered(Result<ServiceInfo, Error>),
    /// The answer was taken.
    Over,
}

impl Greeting {
    pub(super) fn new() -> Self {
        Self::Sent(Vec::new())
    }

    /// Whether the service has not answered yet.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Sent(_))
    }

    /// These bytes came. The first ones are remembered until the greeting is answered.
    #[inline]
    pub(super) fn saw(&mut self, bytes: &[u8]) {
        if let Self::Sent(sample) = self {
            sample.extend(bytes.iter().take(MAX_SAMPLE.saturating_sub(sample.len())));
        }
    }

    /// What came first, for a sentence.
    pub(super) fn sample(&self) -> String {
        match self {
            Self::Sent(sample) => format!("it sent \"{}\"", sample.escape_ascii()),
            Self::Answered(_) | Self::Over => String::new(),
        }
    }

    /// Whether what came first cannot be a packet of at most `max` bytes. A banner may be shorter than a header, which
    /// the splitter waits for, and whoever sent it waits too.
    pub(super) fn is_impossible(&self, max: u32) -> bool {
        match self {
            Self::Sent(sample) => sample.first_chunk().is_some_and(|length| u32::from_be_bytes(*length) > max),
            Self::Answered(_) | Self::Over => false,
        }
    }

    /// Takes the reply to the greeting. False if the packet is something else; an error if it is not Postroom's: the
    /// sentence says what it is.
    pub(super) fn take(&mut self, header: &Header, payload: &Payload<'_>) -> Result<bool, String> {
        if !directory::answers_greeting(header) {
            return Ok(false);
        }
        let undecodable = |error| format!("its answer to the greeting does not decode: {error}");
        *self = Self::Answered(match header.status {
            Status::Ok => Ok(codec::decode(payload).map_err(undecodable)?),
            _ => Err(Error::decode(payload).map_err(undecodable)?),
        });
        Ok(true)
    }
}
