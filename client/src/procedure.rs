//! What a call is addressed to, within a service.
//!
//! Callers make these; a name is resolved when the call is sent, never before.

use std::borrow::Cow;
use std::fmt;

/// A procedure by its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Procedure {
    /// The number of the program.
    pub program: u32,
    /// The version of the program, from 1.
    pub version: u32,
    /// The number of the procedure, from 1.
    pub number: i32,
}

impl Procedure {
    /// The procedure `number` of this version of this program.
    #[must_use]
    pub const fn new(program: u32, version: u32, number: i32) -> Self {
        Self { program, version, number }
    }
}

impl fmt::Display for Procedure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "procedure {} of program {:#010x} version {}", self.number, self.program, self.version)
    }
}

/// What a call is addressed to: numbers, or a name that the service's directory knows.
///
/// A name is `PROGRAM.PROCEDURE`, which means the program's highest version, or `PROGRAM/VERSION.PROCEDURE`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target<'a> {
    /// By number: nothing is looked up.
    Procedure(Procedure),
    /// By name: the service's directory is asked once for each connection.
    Name(Cow<'a, str>),
}

impl From<Procedure> for Target<'_> {
    fn from(procedure: Procedure) -> Self {
        Self::Procedure(procedure)
    }
}

impl From<&Procedure> for Target<'_> {
    fn from(procedure: &Procedure) -> Self {
        Self::Procedure(*procedure)
    }
}

impl<'a> From<&'a str> for Target<'a> {
    fn from(name: &'a str) -> Self {
        Self::Name(Cow::Borrowed(name))
    }
}

impl<'a> From<&'a String> for Target<'a> {
    fn from(name: &'a String) -> Self {
        Self::Name(Cow::Borrowed(name))
    }
}

impl From<String> for Target<'_> {
    fn from(name: String) -> Self {
        Self::Name(Cow::Owned(name))
    }
}
