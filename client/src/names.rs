//! Procedures by name: what the service's directory said, and what to say when a name is not in it.
//!
//! Requests look names up here; the table is asked for once for each connection, by whoever needs it first.

use postroom_protocol::{Code, Error};

use crate::directory::{Description, ProgramDescription};
use crate::procedure::Procedure;

/// The names that a service knows.
#[derive(Debug)]
pub(crate) struct Names(Vec<ProgramDescription>);

impl Names {
    pub(crate) fn new(description: Description) -> Self {
        Self(description.programs)
    }

    /// The procedure called `PROGRAM.PROCEDURE` or `PROGRAM/VERSION.PROCEDURE`.
    ///
    /// # Errors
    ///
    /// When there is none; the message names what comes nearest.
    pub(crate) fn resolve(&self, name: &str) -> Result<Procedure, Error> {
        let Some((program_name, procedure_name)) = name.split_once('.') else {
            return Err(Error::invalid_arguments(format!(
                "{name:?} names no procedure: the form is PROGRAM.PROCEDURE or PROGRAM/VERSION.PROCEDURE"
            )));
        };
        let program = self.program(program_name)?;
        if let Some(codec) = program.codec.as_deref().filter(|codec| *codec != "messagepack") {
            return Err(Error::unsupported(format!(
                "program {} version {} speaks {codec}, and this client MessagePack",
                program.name, program.version
            )));
        }
        match program.procedures.iter().find(|procedure| procedure.name == procedure_name) {
            Some(procedure) => Ok(Procedure::new(program.number, program.version, procedure.number)),
            None => {
                let known = program.procedures.iter().map(|procedure| procedure.name.as_str());
                Err(Error::new(
                    Code::UNKNOWN_PROCEDURE,
                    format!(
                        "program {} version {} has no procedure {procedure_name:?}; {}",
                        program.name,
                        program.version,
                        suggestion(procedure_name, known)
                    ),
                ))
            }
        }
    }

    fn program(&self, name: &str) -> Result<&ProgramDescription, Error> {
        let (name, version) = match name.split_once('/') {
            None => (name, None),
            Some((name, version)) => match version.parse::<u32>() {
                Ok(version) => (name, Some(version)),
                Err(_) => {
                    return Err(Error::invalid_arguments(format!("{version:?} is no version of a program")));
                }
            },
        };
        let versions = || self.0.iter().filter(|program| program.name == name);
        let found = match version {
            None => versions().max_by_key(|program| program.version),
            Some(version) => versions().find(|program| program.version == version),
        };
        match (found, versions().next(), version) {
            (Some(program), ..) => Ok(program),
            (None, Some(program), Some(version)) => {
                let existing: Vec<u32> = versions().map(|program| program.version).collect();
                Err(Error::unknown_version(name, program.number, version, &existing))
            }
            _ => {
                let known = self.0.iter().map(|program| program.name.as_str());
                let message = format!("there is no program {name:?}; {}", suggestion(name, known));
                Err(Error::new(Code::UNKNOWN_PROGRAM, message))
            }
        }
    }
}

/// The name that comes nearest, if one is near; else all of them.
fn suggestion<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let near = known.clone().map(|other| (distance(name, other), other)).min();
    match near {
        None => "there are none".to_owned(),
        Some((far, other)) if far <= name.chars().count().div_ceil(2).min(3) => format!("did you mean {other:?}?"),
        Some(_) => {
            let mut names: Vec<&str> = known.collect();
            names.sort_unstable();
            names.dedup();
            format!("there are: {}", names.join(", "))
        }
    }
}

/// How many characters must be put in, left out or replaced to make one text of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, from) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::ProcedureDescription;

    fn names() -> Names {
        let program = |version, procedures: &[&str]| ProgramDescription {
            name: "echo".to_owned(),
            number: 7,
            version,
            codec: None,
            procedures: procedures
                .iter()
                .zip(1..)
                .map(|(name, number)| ProcedureDescription { number, name: (*name).to_owned() })
                .collect(),
        };
        Names(vec![program(1, &["echo"]), program(3, &["echo", "mirror"]), program(2, &[])])
    }

    #[test]
    fn the_highest_version_is_meant_unless_one_is_named() {
        assert_eq!(names().resolve("echo.mirror").unwrap(), Procedure::new(7, 3, 2));
        assert_eq!(names().resolve("echo/1.echo").unwrap(), Procedure::new(7, 1, 1));
    }

    #[test]
    fn a_wrong_name_is_told_what_comes_nearest() {
        let refusal = |name: &str| names().resolve(name).unwrap_err().to_string();
        assert_eq!(refusal("ecko.echo"), "unknown_program: there is no program \"ecko\"; did you mean \"echo\"?");
        assert_eq!(
            refusal("echo.miror"),
            "unknown_procedure: program echo version 3 has no procedure \"miror\"; did you mean \"mirror\"?"
        );
        assert!(refusal("echo.frobnicate").ends_with("there are: echo, mirror"), "{}", refusal("echo.frobnicate"));
        assert!(refusal("echo/9.echo").contains("it has: 1, 3, 2"), "{}", refusal("echo/9.echo"));
        assert!(refusal("echo/x.echo").contains("\"x\""));
        assert!(refusal("echo").contains("PROGRAM.PROCEDURE"));
    }

    #[test]
    fn a_program_that_speaks_something_else_is_refused() {
        let mut names = names();
        names.0[1].codec = Some("messagepack".to_owned());
        assert!(names.resolve("echo.mirror").is_ok());
        names.0[1].codec = Some("xdr".to_owned());
        assert_eq!(
            names.resolve("echo.mirror").unwrap_err().to_string(),
            "unsupported: program echo version 3 speaks xdr, and this client MessagePack"
        );
        assert!(names.resolve("echo/1.echo").is_ok());
    }

    #[test]
    fn distances() {
        for (one, other, expected) in [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("echo", "ehco", 2)] {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
    }
}
