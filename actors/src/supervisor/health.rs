//! Whether a service is in order, as its users are told.

use std::fmt;
use std::time::Instant;

use serde::ser::{Serialize, SerializeStruct, Serializer};

/// Whether a service is in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// All is in order.
    Healthy,
    /// It serves, but not everything.
    Degraded(Vec<Reason>),
}

/// Something that is not in order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reason {
    /// What it is about: a type of handlers, or workers.
    pub subject: String,
    /// What failed.
    pub what: String,
    /// The incident in the log, where there is one.
    pub incident: Option<String>,
    /// Since when.
    pub since: Instant,
    /// When it is tried again: a worker then, a handler with the first call for it after that. A handler that no call asks
    /// for within ten seconds of that is not in the list any more: nothing is known of it.
    pub retry_at: Instant,
}

impl Health {
    /// Whether all is in order.
    pub fn is_healthy(&self) -> bool {
        *self == Self::Healthy
    }
}

impl Serialize for Health {
    /// `state`: `healthy` or `degraded`; `reasons`: a line for each.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (state, reasons) = match self {
            Self::Healthy => ("healthy", Vec::new()),
            Self::Degraded(reasons) => ("degraded", reasons.iter().map(ToString::to_string).collect()),
        };
        let mut health = serializer.serialize_struct("Health", 2)?;
        health.serialize_field("state", state)?;
        health.serialize_field("reasons", &reasons)?;
        health.end()
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Healthy => f.write_str("healthy"),
            Self::Degraded(reasons) => {
                f.write_str("degraded")?;
                reasons.iter().try_for_each(|reason| write!(f, "; {reason}"))
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.what)?;
        if let Some(incident) = &self.incident {
            write!(f, "; incident {incident}")?;
        }
        let left = self.retry_at.saturating_duration_since(Instant::now());
        write!(f, "; for {} s", self.since.elapsed().as_secs())?;
        if left.is_zero() { f.write_str(", tried again next") } else { write!(f, ", tried again in {left:.1?}") }
    }
}
