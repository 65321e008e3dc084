//! What a service says of its programs, as the commands need it.

use postroom_client::{Client, Procedure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Exit, explain};

/// How much of a value is shown when it is none that was expected.
const SHOWN: usize = 60;

const DESCRIBE: Procedure = Procedure::new(crate::builtin::directory::NUMBER, crate::builtin::directory::VERSION, 2);

/// The reply of `directory.describe`.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Directory {
    pub(super) programs: Vec<Program>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Program {
    pub(super) name: String,
    pub(super) number: u32,
    pub(super) version: u32,
    #[serde(default)]
    pub(super) codec: Codec,
    pub(super) procedures: Vec<Described>,
    #[serde(default)]
    pub(super) events: Vec<Event>,
}

/// How the payloads of a program are encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Codec {
    #[default]
    MessagePack,
    Xdr,
    /// One that this version does not know.
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Described {
    pub(super) number: i32,
    pub(super) name: String,
    pub(super) class: String,
    pub(super) priority: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) arguments: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<Value>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Event {
    pub(super) number: i32,
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<Value>,
}

impl Directory {
    /// Asks the service.
    pub(super) async fn ask(client: &Client) -> Result<Self, Exit> {
        client.call(DESCRIBE, &()).await.map_err(|error| explain(&error))
    }

    /// The procedure with this name: `PROGRAM.PROCEDURE`, of the highest version, or `PROGRAM/VERSION.PROCEDURE`.
    ///
    /// # Errors
    ///
    /// The error by which the service would answer, and the nearest name.
    pub(super) fn find(&self, name: &str) -> Result<(&Program, &Described), Exit> {
        let Some((program_name, procedure_name)) = name.split_once('.') else {
            return Err(Exit::usage(format!("{name:?}: a procedure is named PROGRAM.PROCEDURE, as in echo.echo")));
        };
        let (program_name, version) = match program_name.split_once('/') {
            None => (program_name, None),
            Some((program, version)) => {
                let version: u32 = version
                    .parse()
                    .map_err(|_| Exit::usage(format!("{name:?}: {version:?} is no version; PROGRAM/2.PROCEDURE")))?;
                (program, Some(version))
            }
        };
        let mut named: Vec<&Program> = self.programs.iter().filter(|program| program.name == program_name).collect();
        named.sort_by_key(|program| program.version);
        let Some(newest) = named.last() else {
            let names = self.programs.iter().map(|program| program.name.as_str());
            let hint = nearest(program_name, names);
            return Err(Exit::service("unknown_program", &format!("there is no program {program_name:?}{hint}")));
        };
        let program = match version {
            None => newest,
            Some(version) => named.iter().find(|program| program.version == version).ok_or_else(|| {
                let versions: Vec<String> = named.iter().map(|program| program.version.to_string()).collect();
                let versions = versions.join(", ");
                let text = format!("program {program_name} has no version {version}; it has {versions}");
                Exit::service("unknown_version", &text)
            })?,
        };
        let found = program.procedures.iter().find(|procedure| procedure.name == procedure_name);
        found.map(|procedure| (*program, procedure)).ok_or_else(|| {
            let names = program.procedures.iter().map(|procedure| procedure.name.as_str());
            let hint = nearest(procedure_name, names);
            let text = format!("program {program_name} has no procedure {procedure_name:?}{hint}");
            Exit::service("unknown_procedure", &text)
        })
    }
}

impl Program {
    /// Whether arguments can be sent that were written as JSON, and a result shown as JSON.
    ///
    /// # Errors
    ///
    /// The code by which a service refuses what it cannot do, and who calls such a program.
    pub(super) fn speaks_messagepack(&self) -> Result<(), Exit> {
        let codec = match self.codec {
            Codec::MessagePack => return Ok(()),
            Codec::Xdr => "XDR, which only a client that knows the types can write and read, such as those of libvirt",
            Codec::Other => "a codec that this version does not know",
        };
        let Self { name, version, .. } = self;
        Err(Exit::service(
            "unsupported",
            &format!("program {name} version {version} speaks {codec}; `postroom call` speaks MessagePack"),
        ))
    }
}

impl Described {
    /// Checks the names and the plain types of arguments against the schema, where there is one; `called` is what was
    /// asked for by name.
    ///
    /// # Errors
    ///
    /// Every name that there is no argument of, with the nearest one, every argument that is missing, and every one
    /// whose value the service could not take: with the code by which it would answer, and what it cannot say, since
    /// it knows the arguments only as MessagePack.
    pub(super) fn check(&self, called: &str, arguments: &Value) -> Result<(), Exit> {
        let faults = self.faults(arguments);
        if faults.is_empty() {
            return Ok(());
        }
        let help = format!("`postroom call --help {called}` shows what it takes");
        Err(Exit::service("invalid_arguments", &format!("{}\n{help}", faults.join("\n"))))
    }

    fn faults(&self, arguments: &Value) -> Vec<String> {
        let Some(schema) = &self.arguments else { return Vec::new() };
        let Some(known) = schema.get("properties").and_then(Value::as_object) else { return Vec::new() };
        let none = Map::new();
        let given = match arguments {
            Value::Object(given) => given,
            // Neither is an argument: both are how no arguments are written.
            Value::Null => &none,
            Value::Array(values) if values.is_empty() => &none,
            // Arguments in the order of the fields, which a schema does not promise to keep.
            Value::Array(_) => return Vec::new(),
            other => return vec![format!("{} takes an object of arguments, not {}", self.name, show(other))],
        };
        let is_closed = matches!(schema.get("additionalProperties"), None | Some(Value::Bool(false)));
        let unknown = given.keys().filter(|name| is_closed && !known.contains_key(*name)).map(|name| {
            let hint = nearest(name, known.keys().map(String::as_str));
            format!("{} has no argument {name:?}{hint}", self.name)
        });
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        let missing = required.filter_map(Value::as_str).filter(|name| !given.contains_key(*name));
        let wrong = given.iter().filter_map(|(name, value)| {
            let schema = known.get(name).filter(|schema| !fits(schema, value))?;
            Some(format!("the argument {name:?} is {}; expected is {}", show(value), expected(schema)))
        });
        unknown.chain(missing.map(|name| format!("{} needs the argument {name:?}", self.name))).chain(wrong).collect()
    }
}

/// Whether the service may take this value. Only what it certainly refuses does not fit.
fn fits(schema: &Value, value: &Value) -> bool {
    if let Some(alternatives) = alternatives(schema) {
        return alternatives.iter().any(|schema| fits(schema, value));
    }
    let types = types(schema);
    types.is_empty() || types.iter().any(|name| fits_type(name, schema, value))
}

fn fits_type(name: &str, schema: &Value, value: &Value) -> bool {
    // What JSON has not is a map on the command line only.
    let is_special = value.as_object().is_some_and(|map| map.len() == 1 && map.keys().all(|key| key.starts_with('$')));
    match name {
        // A unit struct may be an empty array.
        "null" => value.is_null() || value.as_array().is_some_and(Vec::is_empty),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => match range(schema) {
            Some((low, high)) => integer(value).is_some_and(|integer| (low..=high).contains(&integer)),
            None => true,
        },
        // Formats, such as those of addresses, and enums have other forms in MessagePack.
        "string" => {
            value.is_string() || is_special || ["format", "enum", "const"].iter().any(|&key| schema.get(key).is_some())
        }
        "array" => value.is_array() || is_special,
        // A struct is also an array in the order of its fields.
        "object" => value.is_object() || value.is_array(),
        _ => true,
    }
}

fn alternatives(schema: &Value) -> Option<&Vec<Value>> {
    schema.get("anyOf").or(schema.get("oneOf")).and_then(Value::as_array)
}

/// The types that a schema names: one, several, or none.
fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn integer(value: &Value) -> Option<i128> {
    value.as_u64().map(i128::from).or(value.as_i64().map(i128::from))
}

/// From where to where an integer goes; nothing if its format is not known.
fn range(schema: &Value) -> Option<(i128, i128)> {
    let format = schema.get("format").and_then(Value::as_str).unwrap_or("int64");
    let (is_signed, bits) = match (format, format.strip_prefix("uint"), format.strip_prefix("int")) {
        ("uint", ..) => (false, 64),
        ("int", ..) => (true, 64),
        (_, Some(bits), _) => (false, bits.parse().ok()?),
        (_, _, Some(bits)) => (true, bits.parse().ok()?),
        _ => return None,
    };
    match (is_signed, bits) {
        (false, 1..=64) => Some((0, (1 << bits) - 1)),
        (true, 1..=64) => Some((-(1 << (bits - 1)), (1 << (bits - 1)) - 1)),
        _ => None,
    }
}

/// What a schema allows, for a sentence.
fn expected(schema: &Value) -> String {
    let all: Vec<String> = match alternatives(schema) {
        Some(alternatives) => alternatives.iter().map(expected).collect(),
        None => types(schema).into_iter().map(|name| expected_type(name, schema)).collect(),
    };
    all.join(" or ")
}

fn expected_type(name: &str, schema: &Value) -> String {
    match name {
        "integer" => match range(schema) {
            Some((low, high)) => format!("an integer from {low} to {high}"),
            None => "an integer".to_owned(),
        },
        "object" if schema.pointer("/properties/$bin").is_some() => "bytes as {\"$bin\": BASE64}".to_owned(),
        "array" | "object" => format!("an {name}"),
        "null" => name.to_owned(),
        _ => format!("a {name}"),
    }
}

/// A value as it was typed, if that is short, and what it is.
fn show(value: &Value) -> String {
    let text = value.to_string();
    let text = if text.chars().count() <= SHOWN { text } else { text.chars().take(SHOWN).chain(['…']).collect() };
    match value {
        Value::Null => text,
        Value::Bool(_) => format!("{text}, a boolean"),
        Value::Number(_) => format!("{text}, a number"),
        Value::String(_) => format!("{text}, a string"),
        Value::Array(_) => format!("{text}, an array"),
        Value::Object(_) => format!("{text}, an object"),
    }
}

/// `; did you mean X?` with the nearest name, or the list of names when none is near.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let distance = |known: &'a str| (strsim::damerau_levenshtein(name, known), known);
    match known.clone().map(distance).min() {
        Some((distance, nearest)) if distance <= 1.max(name.len() / 2) => format!("; did you mean {nearest:?}?"),
        Some(_) => format!("; there are {}", known.collect::<Vec<_>>().join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn directory() -> Directory {
        let procedure = |name: &str| {
            let schema = json!({ "properties": { "id": {}, "data": {} }, "required": ["id"] });
            json!({ "number": 1, "name": name, "class": "inline", "priority": false, "arguments": schema })
        };
        let program = |version: u32| json!({ "name": "echo", "number": 7, "version": version, "procedures": [procedure("echo")] });
        serde_json::from_value(json!({ "programs": [program(2), program(1)] })).unwrap()
    }

    #[test]
    fn the_highest_version_is_meant_unless_one_is_named() {
        let directory = directory();
        assert_eq!(directory.find("echo.echo").unwrap().0.version, 2);
        assert_eq!(directory.find("echo/1.echo").unwrap().0.version, 1);
    }

    #[test]
    fn an_unknown_name_is_reported_as_by_the_service_with_the_nearest_one() {
        let directory = directory();
        for (name, code, text) in [
            ("ecko.echo", "unknown_program", "did you mean \"echo\"?"),
            ("echo/3.echo", "unknown_version", "it has 1, 2"),
            ("echo.ecco", "unknown_procedure", "did you mean \"echo\"?"),
        ] {
            let exit = directory.find(name).unwrap_err();
            assert_eq!(exit.status, 1);
            assert!(exit.text.starts_with(code) && exit.text.contains(text), "{}", exit.text);
        }
        assert_eq!(directory.find("echo").unwrap_err().status, 2);
    }

    #[test]
    fn argument_names_are_checked_all_at_once() {
        let directory = directory();
        let (_, echo) = directory.find("echo.echo").unwrap();
        echo.check("echo.echo", &json!({ "id": 1 })).unwrap();
        let exit = echo.check("echo.echo", &json!({ "dat": 1, "zzzzzz": 2 })).unwrap_err();
        assert_eq!(exit.text.lines().count(), 4, "{}", exit.text);
        assert!(exit.text.contains("did you mean \"data\"?") && exit.text.contains("needs the argument \"id\""));
    }

    #[test]
    fn no_arguments_lack_what_is_required_however_they_are_written() {
        let directory = directory();
        let (_, echo) = directory.find("echo.echo").unwrap();
        for none in [json!(null), json!({}), json!([])] {
            let exit = echo.check("echo.echo", &none).unwrap_err();
            assert!(exit.text.starts_with("invalid_arguments: echo needs the argument \"id\""), "{}", exit.text);
        }
        // As a MessagePack array, in the order of the fields.
        echo.check("echo.echo", &json!([1, ""])).unwrap();
        assert!(
            echo.check("echo.echo", &json!(5)).unwrap_err().text.contains("an object of arguments, not 5, a number")
        );
    }

    #[test]
    fn what_the_service_certainly_refuses_does_not_fit() {
        let integer = |format: &str| json!({ "type": "integer", "format": format });
        let bin = serde_json::to_value(crate::schema::bin(&mut schemars::SchemaGenerator::default())).unwrap();
        let bytes = json!({ "$bin": "AA==" });
        for (schema, value) in [
            (integer("uint8"), json!(256)),
            (integer("uint64"), json!(-1)),
            (integer("int8"), json!(-129)),
            (integer("uint64"), json!(1.0)),
            (integer("int64"), json!("x")),
            (integer("uint64"), bytes.clone()),
            (json!({ "type": ["integer", "null"], "format": "uint64" }), json!("1")),
            (json!({ "type": "boolean" }), json!(1)),
            (json!({ "type": "number" }), json!("1.5")),
            (json!({ "type": "string" }), json!(1)),
            (json!({ "type": "string" }), json!({ "a": 1 })),
            (json!({ "type": "array" }), json!("x")),
            (json!({ "type": "object" }), json!("x")),
            (bin.clone(), json!(5)),
        ] {
            assert!(!fits(&schema, &value), "{value} fits {schema}");
            assert_ne!(expected(&schema), "");
        }
        for (schema, value) in [
            (integer("uint8"), json!(255)),
            (integer("uint64"), json!(u64::MAX)),
            (integer("int64"), json!(i64::MIN)),
            (integer("int128"), bytes.clone()),
            (json!({ "type": ["integer", "null"], "format": "uint64" }), json!(null)),
            (json!({ "type": "number", "format": "double" }), json!(1)),
            (json!({ "type": "string" }), bytes.clone()),
            (json!({ "type": "string", "format": "ipv4" }), json!([127, 0, 0, 1])),
            (json!({ "type": "array" }), bytes.clone()),
            (json!({ "type": "object" }), json!([1, 2])),
            (json!({ "$ref": "#/$defs/Other" }), json!(1)),
            (json!({ "anyOf": [{ "$ref": "#/$defs/Other" }, { "type": "null" }] }), json!(1)),
            (json!({ "oneOf": [{ "type": "string" }, { "type": "object" }] }), json!({ "a": 1 })),
            (json!(true), json!(1)),
            (bin.clone(), json!("x")),
            (bin.clone(), bytes),
        ] {
            assert!(fits(&schema, &value), "{value} does not fit {schema}");
        }
        assert_eq!(expected(&bin), "bytes as {\"$bin\": BASE64} or a string");
        assert_eq!(expected(&integer("uint64")), "an integer from 0 to 18446744073709551615");
    }
}
