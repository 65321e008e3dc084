//! Where a service is, as people write it: the wire's own addresses, and `local:NAME`.
//!
//! Nothing is resolved or opened here; that `local:` names are looked up in a connector is not known here either.

use std::fmt;
use std::str::FromStr;

use postroom_protocol::{Address, AddressError};

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// `unix:PATH`, `unix:@NAME` or `tcp:HOST:PORT`: behind a socket.
    Remote(Address),
    /// `local:NAME`: in this process, in a [`Connector`](crate::Connector) that was given it under this name.
    Local(String),
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        match text.strip_prefix("local:") {
            Some("") => Err(LocationError::EmptyName),
            Some(name) => Ok(Self::Local(name.to_owned())),
            None => text.parse().map(Self::Remote).map_err(LocationError::Address),
        }
    }
}

impl From<Address> for Location {
    fn from(address: Address) -> Self {
        Self::Remote(address)
    }
}

impl TryFrom<&str> for Location {
    type Error = LocationError;

    fn try_from(text: &str) -> Result<Self, LocationError> {
        text.parse()
    }
}

impl TryFrom<&String> for Location {
    type Error = LocationError;

    fn try_from(text: &String) -> Result<Self, LocationError> {
        text.parse()
    }
}

impl TryFrom<String> for Location {
    type Error = LocationError;

    fn try_from(text: String) -> Result<Self, LocationError> {
        text.parse()
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remote(address) => address.fmt(f),
            Self::Local(name) => write!(f, "local:{name}"),
        }
    }
}

/// A text that says no location; its display names the text, what is wrong, and what forms there are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LocationError {
    /// The text is no address.
    Address(AddressError),
    /// Nothing stands behind `local:`.
    EmptyName,
}

impl fmt::Display for LocationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(error) => write!(f, "{error}, and local:NAME with a connector"),
            Self::EmptyName => f.write_str("address \"local:\": the name is empty; the form is local:NAME"),
        }
    }
}

impl std::error::Error for LocationError {}

impl From<std::convert::Infallible> for LocationError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}
