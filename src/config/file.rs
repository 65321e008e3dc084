//! The configuration file: TOML with flat keys.
//!
//! Everything that is wrong is told at once, each fault with its line, its key, its value and what is allowed; an
//! unknown key names the nearest one that exists.

use std::fmt::{self, Write as _};

use postroom_actors::Address;
use postroom_actors::limits::{self, Row, TABLE, Unit};
use toml::de::{DeTable, DeValue};

use super::{Config, units};

/// The keys that are no limits, with their meanings.
const OTHER_KEYS: [(&str, &str); 4] = [
    ("listen", "Where the service listens: one address or a list. unix:PATH, unix:@ABSTRACT, tcp:HOST:PORT."),
    (
        "unix_sock_perms",
        "The permissions of Unix sockets that are files, in octal. If they let others in, the folder of the default socket lets them through.",
    ),
    ("unix_sock_group", "The group that such sockets belong to, by name or number; \"\" for that of the process."),
    ("demo", "Whether the program `echo` is served, which is there to try things out."),
];

/// Everything that is wrong with a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileErrors(Vec<String>);

impl fmt::Display for FileErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for FileErrors {}

/// Reads a configuration from the text of a file; `name` stands for the file in errors.
///
/// # Errors
///
/// Everything that is wrong with it, a line for each fault.
pub fn parse(name: &str, text: &str) -> Result<Config, FileErrors> {
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            return Err(FileErrors(vec![format!("{name}:{line}: this is no TOML: {}", error.message())]));
        }
    };
    let mut config = Config::default();
    let mut faults = Vec::new();
    // The table is sorted by key; faults are told in the order of the file.
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in entries {
        if let Err(fault) = set(&mut config, key.get_ref(), value.get_ref()) {
            let at = format!("{name}:{}", line_of(text, key.span().start));
            faults.extend(fault.lines().map(|fault| format!("{at}: {fault}")));
        }
    }
    // A limit with a fault has its default, which follows the others: what contradicts here was set.
    if let Err(contradictions) = config.limits.settled() {
        faults.extend(contradictions.to_string().lines().map(|fault| format!("{name}: {fault}")));
    }
    if faults.is_empty() { Ok(config) } else { Err(FileErrors(faults)) }
}

/// The configuration as a file, each key with its meaning.
pub fn print(config: &Config) -> String {
    let mut out = String::new();
    let quoted = |text: &str| toml_string(text);
    let listen: Vec<String> = config.listen.iter().map(|address| quoted(&address.to_string())).collect();
    for (key, meaning) in OTHER_KEYS {
        let value = match key {
            "listen" => format!("[{}]", listen.join(", ")),
            "unix_sock_perms" => format!("\"{:04o}\"", config.unix_sock_perms),
            "unix_sock_group" => quoted(config.unix_sock_group.as_deref().unwrap_or("")),
            _ => config.demo.to_string(),
        };
        // Writing to a string does not fail.
        let _ = writeln!(out, "# {meaning}\n{key} = {value}\n");
    }
    for row in TABLE {
        let value = units::print(row.unit, row.get(&config.limits));
        let _ = writeln!(out, "# {}\n{} = {value}\n", row.meaning, row.key);
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// Sets one key. An error has a line for each fault.
fn set(config: &mut Config, key: &str, value: &DeValue<'_>) -> Result<(), String> {
    match key {
        "listen" => config.listen = addresses(value)?,
        "unix_sock_perms" => config.unix_sock_perms = permissions(value)?,
        "unix_sock_group" => {
            let group = value.as_str().ok_or_else(|| fault(key, value, "a string"))?;
            if !group.is_empty() && !is_group(group) {
                return Err(fault(key, value, "the name or the number of a group that exists, or \"\""));
            }
            config.unix_sock_group = (!group.is_empty()).then(|| group.to_owned());
        }
        "demo" => config.demo = value.as_bool().ok_or_else(|| fault(key, value, "true or false"))?,
        _ => match limits::row(key) {
            Some(row) => set_limit(config, row, value)?,
            None => return Err(unknown(key, value)),
        },
    }
    Ok(())
}

fn set_limit(config: &mut Config, row: &Row, value: &DeValue<'_>) -> Result<(), String> {
    let number = match value {
        DeValue::Integer(integer) => {
            let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
            match row.unit {
                Unit::Duration => number.and_then(|seconds| seconds.checked_mul(1000)),
                Unit::Count | Unit::Bytes => number,
            }
        }
        DeValue::String(text) => units::parse(row.unit, text),
        _ => None,
    };
    let (low, high) = row.range;
    let plain = |value| units::print(row.unit, value).replace('"', "");
    let range = format!("{}, from {} to {}", units::form(row.unit), plain(low), plain(high));
    let number = number.ok_or_else(|| fault(row.key, value, &range))?;
    row.set(&mut config.limits, number).map_err(|_| fault(row.key, value, &range))
}

fn addresses(value: &DeValue<'_>) -> Result<Vec<Address>, String> {
    let allowed = "an address or a list of addresses: unix:PATH, unix:@ABSTRACT, tcp:HOST:PORT";
    let one = |value: &DeValue<'_>| -> Result<Address, String> {
        let text = value.as_str().ok_or_else(|| fault("listen", value, allowed))?;
        text.parse().map_err(|error| format!("listen: {error}"))
    };
    match value {
        DeValue::Array(values) => {
            let (addresses, faults): (Vec<_>, Vec<_>) =
                values.iter().map(|value| one(value.get_ref())).partition(Result::is_ok);
            let faults: Vec<String> = faults.into_iter().filter_map(Result::err).collect();
            if faults.is_empty() { addresses.into_iter().collect() } else { Err(faults.join("\n")) }
        }
        value => Ok(vec![one(value)?]),
    }
}

/// Whether there is such a group. Where that cannot be told now, it is told when the socket is made.
fn is_group(group: &str) -> bool {
    group.parse::<u32>().is_ok() || !matches!(nix::unistd::Group::from_name(group), Ok(None))
}

fn permissions(value: &DeValue<'_>) -> Result<u32, String> {
    let parsed = value.as_str().and_then(|text| u32::from_str_radix(text, 8).ok());
    parsed
        .filter(|&mode| mode <= 0o777)
        .ok_or_else(|| fault("unix_sock_perms", value, "a string in octal, from \"0000\" to \"0777\""))
}

fn fault(key: &str, value: &DeValue<'_>, allowed: &str) -> String {
    format!("{key} = {}: allowed is {allowed}", show(value))
}

fn show(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(integer) => integer.to_string(),
        DeValue::Float(float) => float.to_string(),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Datetime(datetime) => datetime.to_string(),
        DeValue::Array(_) => "[…]".to_owned(),
        DeValue::Table(_) => "{…}".to_owned(),
    }
}

fn unknown(key: &str, value: &DeValue<'_>) -> String {
    let shown = show(value);
    let keys = OTHER_KEYS.iter().map(|(key, _)| *key).chain(TABLE.iter().map(|row| row.key));
    let nearest = keys.map(|known| (strsim::damerau_levenshtein(key, known), known)).min();
    match nearest {
        Some((distance, nearest)) if distance <= 3.max(key.len() / 3) => {
            format!("{key} = {shown}: there is no such key; did you mean {nearest}?")
        }
        _ => format!("{key} = {shown}: there is no such key; `postroom config` lists those that exist"),
    }
}

/// A TOML string with this text: what JSON and TOML have in common suffices.
fn toml_string(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_default_is_read_back_as_the_default() {
        let mut config = Config::default();
        assert_eq!(parse("x", &print(&config)).unwrap(), config);
        config.listen = vec!["unix:/a b/\"c".parse().unwrap(), "tcp:[::1]:5".parse().unwrap()];
        config.unix_sock_group = Some("root".to_owned());
        config.demo = false;
        assert_eq!(parse("x", &print(&config)).unwrap(), config);
    }

    #[test]
    fn units_are_understood() {
        let text = "packet_timeout = 5\nwrite_timeout = \"250ms\"\nmax_packet = \"1MiB\"\nmax_client_output = 4096\n";
        let limits = parse("x", text).unwrap().limits;
        assert_eq!(limits.packet_timeout.as_millis(), 5000);
        assert_eq!(limits.write_timeout.as_millis(), 250);
        assert_eq!(limits.max_packet, 1 << 20);
        assert_eq!(limits.max_client_output, 4096);
    }

    #[test]
    fn all_faults_are_told_at_once_with_key_value_what_is_allowed_and_the_nearest_key() {
        let text = "max_client = 5\nmax_clients = 0\nlisten = [\"http:x\", \"unix:/x\", \"y\"]\ndemo = 1\n\
                    unix_sock_perms = \"999\"\nwrite_timeout = \"soon\"\nprio_workers = \"2MiB\"\n\
                    wholly_other_things = 1\nunix_sock_group = \"no-such-group\"\nmin_workers = 1000\n\
                    max_workers = 999\n";
        let FileErrors(faults) = parse("my.toml", text).unwrap_err();
        let expected = [
            "my.toml:1: max_client = 5: there is no such key; did you mean max_clients?",
            "my.toml:2: max_clients = 0: allowed is a number, from 1 to 1000000",
            "my.toml:3: listen: address \"http:x\": ",
            "my.toml:3: listen: address \"y\": ",
            "my.toml:4: demo = 1: allowed is true or false",
            "my.toml:5: unix_sock_perms = \"999\": allowed is a string in octal, from \"0000\" to \"0777\"",
            "my.toml:6: write_timeout = \"soon\": allowed is whole seconds as a number, or a string such as \"500ms\", \
             from 1ms to 8760h",
            "my.toml:7: prio_workers = \"2MiB\": allowed is a number, from 0 to 256",
            "my.toml:8: wholly_other_things = 1: there is no such key; `postroom config` lists those that exist",
            "my.toml:9: unix_sock_group = \"no-such-group\": allowed is the name or the number of a group that exists",
            "my.toml: min_workers = 1000: allowed is 1 to max_workers = 999",
        ];
        assert_eq!(faults.len(), expected.len(), "{faults:#?}");
        for (fault, expected) in faults.iter().zip(expected) {
            assert!(fault.starts_with(expected), "{fault}\nis not\n{expected}");
        }
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_line() {
        let FileErrors(faults) = parse("my.toml", "demo = true\nmax_clients = = 5\n").unwrap_err();
        assert!(faults[0].starts_with("my.toml:2: this is no TOML: "), "{faults:?}");
    }
}
