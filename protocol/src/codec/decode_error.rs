//! Why a payload does not decode, in a sentence for the client that sent it.
//!
//! The sentence names what was found, what was expected and where, in words of MessagePack:
//! the names of Rust types say nothing to a client and stay inside.

use std::fmt::{self, Display};

use serde::de::{self, Expected, Unexpected};

use super::MAX_DEPTH;

/// The longest part of a payload that an error repeats, and the longest description of a type's own.
const MAX_QUOTE: usize = 64;
const MAX_MESSAGE: usize = 256;

/// A payload that does not decode.
///
/// It is one pointer wide, so that the results of decoding stay small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError(Box<Fields>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Fields {
    kind: Kind,
    what: String,
    offset: Option<usize>,
}

/// What the metadata must tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Truncated,
    TooDeep,
    Other,
}

impl DecodeError {
    /// Where in the payload the value starts that does not decode.
    #[must_use]
    pub fn offset(&self) -> Option<usize> {
        self.0.offset
    }

    pub(crate) fn is_truncated(&self) -> bool {
        self.0.kind == Kind::Truncated
    }

    pub(crate) fn is_too_deep(&self) -> bool {
        self.0.kind == Kind::TooDeep
    }

    #[cold]
    pub(crate) fn truncated(offset: usize) -> Self {
        let mut error = Self::new("truncated: the payload ends within the value").at(offset);
        error.0.kind = Kind::Truncated;
        error
    }

    #[cold]
    pub(crate) fn too_deep(offset: usize) -> Self {
        let mut error = Self::new(format!("too deep: nesting deeper than {MAX_DEPTH}")).at(offset);
        error.0.kind = Kind::TooDeep;
        error
    }

    #[cold]
    pub(crate) fn reserved(offset: usize) -> Self {
        Self::new("invalid byte: 0xc1 starts no MessagePack value").at(offset)
    }

    #[cold]
    pub(crate) fn not_utf8(offset: usize) -> Self {
        Self::new("invalid string: it is not UTF-8").at(offset)
    }

    #[cold]
    pub(crate) fn trailing(n_bytes: usize, offset: usize) -> Self {
        let bytes = if n_bytes == 1 { "byte" } else { "bytes" };
        Self::new(format!("trailing bytes: {n_bytes} {bytes} after the value")).at(offset)
    }

    #[cold]
    pub(crate) fn too_many(length: u32, left: u32) -> Self {
        let expected = length - left;
        Self::new(format!("invalid length: {length}, expected {expected}"))
    }

    #[cold]
    pub(crate) fn not_one_entry(length: u32) -> Self {
        Self::new(format!("invalid length: a map of {length}, expected one entry"))
    }

    /// The same, found at `offset`. What was found further inside stays more exact.
    #[cold]
    pub(crate) fn at(mut self, offset: usize) -> Self {
        self.0.offset.get_or_insert(offset);
        self
    }

    #[cold]
    fn new(what: impl Into<String>) -> Self {
        Self(Box::new(Fields { kind: Kind::Other, what: what.into(), offset: None }))
    }
}

impl Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.what)?;
        match self.0.offset {
            Some(offset) => write!(f, " at offset {offset}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    #[cold]
    fn custom<T: Display>(message: T) -> Self {
        Self::new(shorten(&message.to_string(), MAX_MESSAGE))
    }

    #[cold]
    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("invalid type: {}, expected {}", describe(found), expectation(expected)))
    }

    #[cold]
    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("invalid value: {}, expected {}", describe(found), expectation(expected)))
    }

    #[cold]
    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::new(format!("invalid length: {length}, expected {}", expectation(expected)))
    }

    #[cold]
    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("unknown variant `{}`, expected {}", shorten(variant, MAX_QUOTE), one_of(expected)))
    }

    #[cold]
    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("unknown field `{}`, expected {}", shorten(field, MAX_QUOTE), one_of(expected)))
    }
}

/// What was found, in words of MessagePack and not longer than a line.
fn describe(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Unit | Unexpected::Option => "nil".to_owned(),
        Unexpected::Seq => "array".to_owned(),
        Unexpected::Bytes(_) => "bin".to_owned(),
        Unexpected::NewtypeStruct => "ext".to_owned(),
        Unexpected::Str(text) => format!("string {:?}", shorten(text, MAX_QUOTE)),
        other => shorten(&other.to_string(), MAX_MESSAGE),
    }
}

/// What a type expects. Derived types name themselves, and their names are replaced by their form.
fn expectation(expected: &dyn Expected) -> String {
    let text = expected.to_string();
    let fields = |text: &str| match text.split_once(" with ") {
        Some((_, n_elements)) => format!("an array of {n_elements}"),
        None => "a map or an array of fields".to_owned(),
    };
    for form in ["struct ", "struct variant "] {
        if let Some(rest) = text.strip_prefix(form) {
            return fields(rest);
        }
    }
    for form in ["tuple struct ", "tuple variant "] {
        if let Some(rest) = text.strip_prefix(form) {
            return match rest.contains(" with ") {
                true => fields(rest),
                false => "an array".to_owned(),
            };
        }
    }
    match text.as_str() {
        "unit" => "nil".to_owned(),
        "variant identifier" => "the name of a variant".to_owned(),
        "field identifier" => "the name of a field".to_owned(),
        text if text.starts_with("unit struct ") => "nil".to_owned(),
        text if text.starts_with("enum ") => "the name of a variant, alone or in a map".to_owned(),
        text => shorten(text, MAX_MESSAGE),
    }
}

fn one_of(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        names => {
            let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            shorten(&quoted.join(" or "), MAX_MESSAGE)
        }
    }
}

/// `text`, cut to at most `max` bytes and an ellipsis.
pub(crate) fn shorten(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    // Offset 0 is a boundary, so there always is one.
    let end = (0..=max).rev().find(|at| text.is_char_boundary(*at));
    format!("{}…", &text[..end.unwrap_or(0)])
}
