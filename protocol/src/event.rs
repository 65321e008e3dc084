//! What a subscription says, and the payload of an event of a MessagePack program: a map of `value` and, where events were dropped since the last
//! one, `lost`.
//!
//! A service encodes a value once for all who subscribed, so the map is built around a value that is encoded already:
//! `lost`, which differs from one subscription to the next, stands in front of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::codec::{put_str, put_uint};

/// What is dropped when an event comes and there is no room for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// The oldest event that waits: for those who want to know how things are.
    #[default]
    DropOldest,
    /// The event that has just come: for those who want to know how it began.
    DropNewest,
    /// The connection is closed: for those who can do nothing with a gap.
    Disconnect,
}

impl Overflow {
    /// `drop_oldest`, `drop_newest` or `disconnect`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DropOldest => "drop_oldest",
            Self::DropNewest => "drop_newest",
            Self::Disconnect => "disconnect",
        }
    }
}

impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The most bytes that [`put_head`] appends.
pub const MAX_HEAD: usize = 21;

const MAP: u8 = 0x80;

/// Appends what stands in front of the encoded value: so many events were dropped since the last one.
pub fn put_head(lost: u64, out: &mut Vec<u8>) {
    if lost == 0 {
        out.push(MAP | 1);
    } else {
        out.push(MAP | 2);
        put_str("lost", out);
        put_uint(lost, out);
    }
    put_str("value", out);
}

/// What such a payload decodes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload<T> {
    /// What was published.
    pub value: T,
    /// How many events of this subscription were dropped between the one before and this one.
    #[serde(default)]
    pub lost: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn a_value_that_is_encoded_already_gets_its_map() {
        for lost in [0, 1, 200, u64::MAX] {
            let mut payload = Vec::new();
            put_head(lost, &mut payload);
            assert!(payload.len() <= MAX_HEAD, "{lost}: {}", payload.len());
            codec::encode("hot", &mut payload).unwrap();
            assert_eq!(codec::decode::<Payload<String>>(&payload).unwrap(), Payload { value: "hot".to_owned(), lost });
        }
    }

    #[test]
    fn nothing_is_said_of_events_that_were_not_dropped() {
        let mut payload = Vec::new();
        put_head(0, &mut payload);
        assert_eq!(payload, b"\x81\xa5value");
    }
}
