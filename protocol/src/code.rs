//! The codes of errors: short, stable names that programs may compare.
//!
//! The wire's own codes are constants here. A handler may bring codes of its own.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The code of an error.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(Cow<'static, str>);

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal;)+) => {
        impl Code {
            $($(#[doc = $doc])+ pub const $name: Self = Self(Cow::Borrowed($code));)+

            /// Every code of the wire's own.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];
        }
    };
}

codes! {
    /// No program has this number.
    UNKNOWN_PROGRAM = "unknown_program";
    /// The program does not exist in this version.
    UNKNOWN_VERSION = "unknown_version";
    /// The program has no procedure of this number.
    UNKNOWN_PROCEDURE = "unknown_procedure";
    /// The arguments or the metadata do not decode.
    INVALID_ARGUMENTS = "invalid_arguments";
    /// The client has not said who it is, and the procedure asks for it.
    UNAUTHENTICATED = "unauthenticated";
    /// The client may not do this.
    DENIED = "denied";
    /// The service is at a limit that holds for all clients.
    OVERLOADED = "overloaded";
    /// The deadline of the call passed before its result was there.
    DEADLINE_EXCEEDED = "deadline_exceeded";
    /// The call was cancelled by its client.
    CANCELLED = "cancelled";
    /// A packet is over the limit.
    TOO_LARGE = "too_large";
    /// The peer broke the format.
    PROTOCOL = "protocol";
    /// The handler itself reports an error.
    FAILED = "failed";
    /// The service is at fault; its log says more under the incident.
    INTERNAL = "internal";
    /// The service is stopping.
    SHUTTING_DOWN = "shutting_down";
    /// The service does not do this, here or yet.
    UNSUPPORTED = "unsupported";
    /// This very call has failed the service again and again; it is refused for a while.
    POISONED = "poisoned";
    /// A packet was begun and not ended in time.
    PACKET_TIMEOUT = "packet_timeout";
    /// The client did not take its replies in time.
    WRITE_TIMEOUT = "write_timeout";
    /// The client said nothing for too long.
    IDLE_TIMEOUT = "idle_timeout";
    /// The client did not answer keepalive packets.
    KEEPALIVE_TIMEOUT = "keepalive_timeout";
}

impl Code {
    /// A code, of the wire's own or of a handler's.
    pub fn new(code: impl Into<Cow<'static, str>>) -> Self {
        Self(code.into())
    }

    /// The code as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&'static str> for Code {
    fn from(code: &'static str) -> Self {
        Self::new(code)
    }
}

impl From<String> for Code {
    fn from(code: String) -> Self {
        Self::new(code)
    }
}

impl PartialEq<str> for Code {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Code {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}
