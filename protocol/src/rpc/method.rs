//! What a message calls, as it is written: `program.procedure` or `program/version.procedure`.
//!
//! Which programs there are, and which version is the highest, is the router's business.

use std::fmt;

use crate::codec::shorten;

/// The longest part of a method that an error repeats, in bytes.
const MAX_QUOTE: usize = 64;

/// What a message calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Method<'a> {
    /// The name of the program.
    pub program: &'a str,
    /// The version of the program, from 1; the highest where none is given.
    pub version: Option<u32>,
    /// The name of the procedure or event.
    pub procedure: &'a str,
}

impl<'a> Method<'a> {
    /// Reads a method.
    ///
    /// The procedure stands behind the last dot, and the version behind the last slash in front of that.
    /// So the name of a program may have dots in it, and that of a procedure may not.
    /// A version is a decimal number from 1 without sign or leading zeros.
    ///
    /// # Errors
    ///
    /// When there is no dot, when a name is empty, or when the version is no such number.
    pub fn parse(method: &'a str) -> Result<Self, MethodError> {
        let parts = method.rsplit_once('.').filter(|(_, procedure)| !procedure.is_empty() && !procedure.contains('/'));
        let Some((program, procedure)) = parts else {
            return Err(MethodError::new(MethodErrorKind::Form, method));
        };
        let (program, version) = match program.rsplit_once('/') {
            Some((program, digits)) => match version(digits) {
                Some(version) => (program, Some(version)),
                None => return Err(MethodError::new(MethodErrorKind::Version, method)),
            },
            None => (program, None),
        };
        match program.is_empty() || program.contains('/') {
            true => Err(MethodError::new(MethodErrorKind::Form, method)),
            false => Ok(Self { program, version, procedure }),
        }
    }
}

/// `from_str` of numbers would also take a sign and leading zeros.
fn version(digits: &str) -> Option<u32> {
    match digits.as_bytes() {
        [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => digits.parse().ok(),
        _ => None,
    }
}

impl fmt::Display for Method<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { program, version, procedure } = self;
        match version {
            Some(version) => write!(f, "{program}/{version}.{procedure}"),
            None => write!(f, "{program}.{procedure}"),
        }
    }
}

/// A method that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodError {
    kind: MethodErrorKind,
    /// The method, if need be cut.
    method: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MethodErrorKind {
    Form,
    Version,
}

impl MethodError {
    #[cold]
    fn new(kind: MethodErrorKind, method: &str) -> Self {
        Self { kind, method: shorten(method, MAX_QUOTE) }
    }
}

impl fmt::Display for MethodError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = &self.method;
        match self.kind {
            MethodErrorKind::Form => {
                write!(f, "method {method:?} is neither `program.procedure` nor `program/version.procedure`")
            }
            MethodErrorKind::Version => {
                write!(f, "method {method:?} names a version that is no number from 1 to {}", u32::MAX)
            }
        }
    }
}

impl std::error::Error for MethodError {}
