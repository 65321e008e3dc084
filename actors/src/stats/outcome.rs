//! How a call ended, as one byte: with a result, or with one of the codes of errors.

use postroom_protocol::{Code, Error};

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict(u8);

/// The number of verdicts: a result, each code that the protocol knows, and handlers' own codes together.
pub(crate) const VERDICTS: usize = Code::ALL.len() + 2;

impl Verdict {
    /// The call has a result.
    pub(crate) const OK: Self = Self(0);

    /// The call was answered with this error.
    pub(crate) fn of(error: &Error) -> Self {
        let known = Code::ALL.iter().position(|code| code == error.code());
        // There are far fewer than 255 codes.
        Self(known.map_or(VERDICTS - 1, |known| known + 1) as u8)
    }

    pub(crate) fn index(self) -> usize {
        self.0.into()
    }
}

/// The name of a verdict in statistics: `ok`, the code, or `own` for codes that handlers chose.
pub(crate) fn name(index: usize) -> &'static str {
    match index {
        0 => "ok",
        index => Code::ALL.get(index - 1).map_or("own", Code::as_str),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_its_own_name_and_codes_of_handlers_share_one() {
        assert_eq!(name(Verdict::OK.index()), "ok");
        for code in Code::ALL {
            assert_eq!(name(Verdict::of(&Error::new(code.clone(), "")).index()), code.as_str());
        }
        assert_eq!(name(Verdict::of(&Error::new(Code::new("tea"), "")).index()), "own");
    }
}
