//! Amounts of memory, as domain XML gives them: a number and a unit.

use super::fault::{Fault, Kind, Origin};

/// The number of KiB, rounded up. Without a unit it is KiB, as it always was in libvirt.
///
/// `name` is what the value is called in an error.
pub fn kib(value: &str, unit: Option<&str>, name: &str) -> Result<u64, Fault> {
    let number = value.trim().parse::<u64>();
    let number = number
        .map_err(|_| Fault::xml(format!("Invalid value '{}' for element or attribute '{name}'", value.trim())))?;
    let unit = unit.unwrap_or("KiB");
    let bytes = factor(unit)
        .ok_or_else(|| Fault::new(Kind::InvalidArgument, Origin::Nowhere, format!("unknown suffix '{unit}'")))?;
    let bytes = u128::from(number) * u128::from(bytes);
    // What XDR and virsh hold, and far more than there is: so nothing overflows later.
    u64::try_from(bytes.div_ceil(1024))
        .ok()
        .filter(|kib| *kib <= u64::from(u32::MAX) * 1024)
        .ok_or_else(|| Fault::new(Kind::InvalidArgument, Origin::Nowhere, format!("value too large: {number}{unit}")))
}

/// How many bytes a unit has: `M` and `MiB` are powers of two, `MB` is one of ten.
fn factor(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    if ["b", "byte", "bytes"].contains(&unit.as_str()) {
        return Some(1);
    }
    let power = "kmgtpe".find(unit.chars().next()?)? as u32 + 1;
    match &unit[1..] {
        "" | "ib" => 1024_u64.checked_pow(power),
        "b" => 1000_u64.checked_pow(power),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_libvirts() {
        let of = |value, unit| kib(value, unit, "./memory[1]").unwrap();
        assert_eq!(of(" 1024 ", None), 1024);
        assert_eq!(of("512", Some("MiB")), 524_288);
        assert_eq!(of("512", Some("M")), 524_288);
        assert_eq!(of("2", Some("GB")), 1_953_125);
        assert_eq!(of("1", Some("bytes")), 1);
        assert_eq!(of("2", Some("TiB")), 2 << 30);
    }

    #[test]
    fn what_is_no_amount_is_told_in_libvirts_words() {
        let fault = |value, unit| kib(value, unit, "./memory[1]").unwrap_err().message;
        assert_eq!(fault("abc", None), "XML error: Invalid value 'abc' for element or attribute './memory[1]'");
        assert_eq!(fault("1", Some("furlong")), "invalid argument: unknown suffix 'furlong'");
        assert_eq!(fault("1", Some("")), "invalid argument: unknown suffix ''");
        assert_eq!(
            fault("18446744073709551615", Some("EiB")),
            "invalid argument: value too large: 18446744073709551615EiB"
        );
    }
}
