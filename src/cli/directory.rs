//! What a service says of its programs, as the commands need it.

use postroom_client::{Client, Procedure};
use serde::{Deserialize, Serialize};

use super::{Exit, explain};

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
    pub(super) procedures: Vec<Described>,
    #[serde(default)]
    pub(super) events: Vec<Event>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Described {
    pub(super) number: i32,
    pub(super) name: String,
    pub(super) class: String,
    pub(super) priority: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) arguments: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Event {
    pub(super) number: i32,
    pub(super) name: String,
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

impl Described {
    /// Checks the names of arguments against the schema, where there is one.
    ///
    /// # Errors
    ///
    /// Every name that there is no argument of, with the nearest one, and every argument that is missing.
    pub(super) fn check(&self, arguments: &serde_json::Value) -> Result<(), Exit> {
        let (Some(schema), Some(given)) = (&self.arguments, arguments.as_object()) else { return Ok(()) };
        let Some(known) = schema.get("properties").and_then(|properties| properties.as_object()) else {
            return Ok(());
        };
        if schema.get("additionalProperties").is_some_and(|additional| *additional != serde_json::Value::Bool(false)) {
            return Ok(());
        }
        let mut faults: Vec<String> = given
            .keys()
            .filter(|name| !known.contains_key(*name))
            .map(|name| {
                let hint = nearest(name, known.keys().map(String::as_str));
                format!("{} has no argument {name:?}{hint}", self.name)
            })
            .collect();
        let required = schema.get("required").and_then(|required| required.as_array());
        let required = required.into_iter().flatten().filter_map(|name| name.as_str());
        let missing = required.filter(|name| !given.contains_key(*name));
        faults.extend(missing.map(|name| format!("{} needs the argument {name:?}", self.name)));
        if faults.is_empty() { Ok(()) } else { Err(Exit::usage(faults.join("\n"))) }
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
        echo.check(&json!({ "id": 1 })).unwrap();
        let exit = echo.check(&json!({ "dat": 1, "zzzzzz": 2 })).unwrap_err();
        assert_eq!(exit.text.lines().count(), 3, "{}", exit.text);
        assert!(exit.text.contains("did you mean \"data\"?") && exit.text.contains("needs the argument \"id\""));
    }
}
