//! How sizes and durations are written.

use postroom_actors::limits::Unit;

const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

const TIMES: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Reads a value with its unit: `"2MiB"`, `"500ms"`. Returns bytes or milliseconds.
pub(super) fn parse(unit: Unit, text: &str) -> Option<u64> {
    match unit {
        Unit::Count => None,
        Unit::Bytes => {
            let (number, factor) = SIZES.iter().find_map(|(name, factor)| Some((text.strip_suffix(name)?, *factor)))?;
            number.trim().parse::<u64>().ok()?.checked_mul(factor)
        }
        Unit::Duration => {
            let duration = humantime::parse_duration(text).ok()?;
            // A shorter time than the table can hold must not become zero, which may mean something else.
            let is_whole = duration.subsec_nanos().is_multiple_of(1_000_000);
            is_whole.then(|| u64::try_from(duration.as_millis()).ok()).flatten()
        }
    }
}

/// Writes a value as [`parse`] reads it, or as a plain number where that is shorter.
pub(super) fn print(unit: Unit, value: u64) -> String {
    match unit {
        Unit::Count => value.to_string(),
        Unit::Bytes => {
            let fits = |(_, factor): &&(&str, u64)| *factor > 1 && value > 0 && value.is_multiple_of(*factor);
            match SIZES.iter().find(fits) {
                Some((name, factor)) => format!("\"{}{name}\"", value / factor),
                None => value.to_string(),
            }
        }
        Unit::Duration => {
            let fits = |(name, factor): &&(&str, u64)| value.is_multiple_of(*factor) && (value > 0 || *name == "s");
            // Every whole number of milliseconds fits the last.
            let (name, factor) = TIMES.iter().find(fits).copied().unwrap_or(("ms", 1));
            format!("\"{}{name}\"", value / factor)
        }
    }
}

/// What may be written, for error messages.
pub(super) fn form(unit: Unit) -> &'static str {
    match unit {
        Unit::Count => "a number",
        Unit::Bytes => "bytes as a number, or a string such as \"2MiB\"",
        Unit::Duration => "whole seconds as a number, or a string such as \"500ms\"",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_read_with_their_units() {
        assert_eq!(parse(Unit::Bytes, "2MiB"), Some(2 << 20));
        assert_eq!(parse(Unit::Bytes, "4 KiB"), Some(4096));
        assert_eq!(parse(Unit::Bytes, "28B"), Some(28));
        assert_eq!(parse(Unit::Bytes, "2MB"), None);
        assert_eq!(parse(Unit::Bytes, "99999999999GiB"), None);
        assert_eq!(parse(Unit::Duration, "500ms"), Some(500));
        assert_eq!(parse(Unit::Duration, "1m 30s"), Some(90_000));
        assert_eq!(parse(Unit::Duration, "5"), None);
        assert_eq!(parse(Unit::Duration, "10us"), None);
    }

    #[test]
    fn what_is_printed_is_read_back() {
        for value in [0, 1, 500, 1000, 30_000, 90_000, 86_400_000] {
            let printed = print(Unit::Duration, value);
            assert_eq!(parse(Unit::Duration, printed.trim_matches('"')), Some(value), "{printed}");
        }
        for value in [1, 28, 1024, 33_554_436, 2 << 20, 3 << 30] {
            let printed = print(Unit::Bytes, value);
            let read = printed.parse().ok().or_else(|| parse(Unit::Bytes, printed.trim_matches('"')));
            assert_eq!(read, Some(value), "{printed}");
        }
    }
}
