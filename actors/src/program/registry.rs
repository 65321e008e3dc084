//! All programs of a service, checked and laid out for look-up.
//!
//! Built once when the service starts, then shared unchanged by all arbiters. What changes in it is the measured time
//! of each procedure, and what is known of handlers that fail while they start.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use postroom_protocol::rpc::Method;
use postroom_protocol::{Code, Error, libvirt};

use crate::estimate::Estimate;
use crate::events::{Described, ProgramEvents};
use crate::program::handler::Group;
use crate::program::{Class, Codec, Program};
use crate::supervisor::poison::Poison;
use crate::supervisor::watch::Watch;

/// The programs of a service.
#[derive(Debug)]
pub(crate) struct Registry {
    /// By program, version and procedure: the way of every call.
    index: HashMap<(u32, u32, i32), u32, BuildHasherDefault<Mix>>,
    /// By `program.procedure`, of the highest version, and by `program/version.procedure`: the way of every call by name.
    methods: HashMap<String, u32>,
    /// Names and codecs by program and version, and versions by program: for what is not found.
    names: HashMap<(u32, u32), (String, Codec)>,
    versions: HashMap<u32, Vec<u32>>,
    pub(crate) procedures: Vec<ProcedureEntry>,
    /// The events of all programs, and where those of each are.
    pub(crate) events: (Vec<Arc<Described>>, Vec<ProgramEvents>),
    pub(crate) groups: Vec<Arc<dyn Group>>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) poison: Poison,
}

/// Mixes three numbers with a multiplication each. The keys are the service's own, registered in code, so no client can
/// choose them to collide.
#[derive(Debug, Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write_u32(&mut self, word: u32) {
        self.0 = (self.0.rotate_left(26) ^ u64::from(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_i32(&mut self, word: i32) {
        self.write_u32(word.cast_unsigned());
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn finish(&self) -> u64 {
        // The table takes its index from the low bits, and a product has its best ones on top.
        self.0.rotate_left(26)
    }
}

/// A procedure, as the way of a call needs it.
#[derive(Debug)]
pub(crate) struct ProcedureEntry {
    /// `program.procedure`, for the log.
    pub(crate) name: String,
    /// The number of its program.
    pub(crate) program: u32,
    pub(crate) version: u32,
    /// Its own number.
    pub(crate) number: i32,
    pub(crate) codec: Codec,
    pub(crate) class: Class,
    pub(crate) priority: bool,
    /// Whether its calls run to their end when their client leaves.
    pub(crate) runs_to_end: bool,
    pub(crate) group: u32,
    pub(crate) run: u32,
    pub(crate) estimate: Estimate,
}

/// What is wrong with the programs of a service; each line is one fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramErrors(Vec<String>);

impl fmt::Display for ProgramErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ProgramErrors {}

impl Registry {
    /// Checks the programs against each other and lays them out.
    pub(crate) fn new(programs: Vec<Program>, poison_after: u32) -> Result<Self, ProgramErrors> {
        let mut faults = Vec::new();
        let mut registry = Self {
            index: HashMap::default(),
            methods: HashMap::new(),
            names: HashMap::new(),
            versions: HashMap::new(),
            procedures: Vec::new(),
            events: Default::default(),
            groups: Vec::new(),
            watch: Arc::default(),
            poison: Poison::new(poison_after),
        };
        let mut names: HashMap<String, u32> = HashMap::new();
        for program in programs {
            let Program { name, number, version, codec, procedures, events, groups, place } = program;
            let title = format!("program {name:?} ({number:#010x}, version {version})");
            if version == 0 {
                faults.push(format!("{title}: versions count from 1"));
            }
            if name.is_empty() || name.contains(['.', '/', ' ']) {
                faults.push(format!("{title}: a name is not empty and has no '.', '/' or space"));
            }
            if *names.entry(name.clone()).or_insert(number) != number {
                faults.push(format!("{title}: another program with another number has this name"));
            }
            let first_group = registry.groups.len();
            registry.groups.extend(groups);
            // A program that stands there twice is a fault of its own; its procedures are not told as well.
            let is_new = !registry.names.contains_key(&(number, version));
            for (index, procedure) in procedures.iter().enumerate() {
                let title = format!("{title}: procedure {} ({:?})", procedure.number, procedure.name);
                if procedure.number < 1 {
                    faults.push(format!("{title}: numbers count from 1"));
                }
                if procedure.name.is_empty() || procedure.name.contains(['.', '/', ' ']) {
                    faults.push(format!("{title}: a name is not empty and has no '.', '/' or space"));
                }
                if procedures[..index].iter().any(|other| other.name == procedure.name) {
                    faults.push(format!("{title}: the program has another procedure with this name"));
                }
                // Counts of what a program registers in code: far below 2^32.
                let id = registry.procedures.len() as u32;
                if registry.index.insert((number, version, procedure.number), id).is_some() && is_new {
                    faults.push(format!("{title}: the program has another procedure with this number"));
                }
                let full_name = format!("{name}.{}", procedure.name);
                registry.methods.insert(format!("{name}/{version}.{}", procedure.name), id);
                registry.procedures.push(ProcedureEntry {
                    name: full_name,
                    program: number,
                    version,
                    number: procedure.number,
                    codec,
                    class: procedure.class,
                    priority: procedure.priority,
                    runs_to_end: procedure.runs_to_end,
                    group: (first_group + procedure.group) as u32,
                    run: procedure.run as u32,
                    estimate: Estimate::default(),
                });
            }
            let first_event = registry.events.0.len() as u32;
            for (index, event) in events.iter().enumerate() {
                let title = format!("{title}: event {} ({:?})", event.number, event.name);
                if event.number < 1 {
                    faults.push(format!("{title}: numbers count from 1"));
                }
                if event.name.is_empty() || event.name.contains(['.', '/', ' ']) {
                    faults.push(format!("{title}: a name is not empty and has no '.', '/' or space"));
                }
                if events[..index].iter().any(|other| other.name == event.name) {
                    faults.push(format!("{title}: the program has another event with this name"));
                }
                if events[..index].iter().any(|other| other.number == event.number) {
                    faults.push(format!("{title}: the program has another event with this number"));
                }
                registry.events.0.push(Arc::new(Described {
                    name: format!("{name}.{}", event.name),
                    program: number,
                    version,
                    number: event.number,
                    value: event.value,
                    codec,
                }));
            }
            registry.events.1.push((place, first_event..registry.events.0.len() as u32));
            registry.versions.entry(number).or_default().push(version);
            if registry.names.insert((number, version), (name, codec)).is_some() {
                faults.push(format!("{title}: another program has this number and version"));
            }
        }
        registry.versions.values_mut().for_each(|versions| versions.sort_unstable());
        for (id, entry) in registry.procedures.iter().enumerate() {
            if registry.versions[&entry.program].last() == Some(&entry.version) {
                registry.methods.insert(entry.name.clone(), id as u32);
            }
        }
        if faults.is_empty() { Ok(registry) } else { Err(ProgramErrors(faults)) }
    }

    /// The index of a procedure, or what the client is told.
    pub(crate) fn find(&self, program: u32, version: u32, procedure: i32) -> Result<u32, Error> {
        match self.index.get(&(program, version, procedure)) {
            Some(entry) => Ok(*entry),
            None => Err(self.unknown(program, version, procedure)),
        }
    }

    #[cold]
    fn unknown(&self, program: u32, version: u32, procedure: i32) -> Error {
        if let Some((name, _)) = self.names.get(&(program, version)) {
            return Error::unknown_procedure(name, procedure);
        }
        let Some(versions) = self.versions.get(&program) else {
            return Error::unknown_program(program, version);
        };
        // A number with versions has a name for each of them.
        let name = versions.first().and_then(|&first| self.names.get(&(program, first)));
        Error::unknown_version(name.map_or("", |(name, _)| name), program, version, versions)
    }

    /// The index of the procedure that a message calls by this name, or what the client is told.
    pub(crate) fn find_method(&self, method: &str) -> Result<u32, Error> {
        match self.methods.get(method) {
            Some(entry) => Ok(*entry),
            None => Err(self.unknown_method(method)),
        }
    }

    #[cold]
    fn unknown_method(&self, method: &str) -> Error {
        let Method { program, version, procedure } = match Method::parse(method) {
            Ok(method) => method,
            Err(error) => return Error::new(Code::UNKNOWN_PROCEDURE, error.to_string()),
        };
        let Some((number, _)) = self.names.iter().find(|(_, (name, _))| name == program).map(|(key, _)| *key) else {
            return Error::unknown_program_name(program);
        };
        // A program with a name has a version.
        let versions = &self.versions[&number];
        match version.or(versions.last().copied()) {
            Some(version) if versions.contains(&version) => Error::unknown_procedure_name(program, version, procedure),
            version => Error::unknown_version(program, number, version.unwrap_or(0), versions),
        }
    }

    /// The codec in which a call that is not accepted is refused: that of its program, whether it has this version or
    /// not. Who calls one of libvirt's programs reads XDR even where there is none; all others read MessagePack.
    #[cold]
    pub(crate) fn codec(&self, program: u32, version: u32) -> Codec {
        let newest = || self.versions.get(&program).and_then(|versions| self.names.get(&(program, *versions.last()?)));
        match self.names.get(&(program, version)).or_else(newest) {
            Some((_, codec)) => *codec,
            None if libvirt::is_own_program(program) => Codec::Xdr,
            None => Codec::MessagePack,
        }
    }

    /// Whether any blocking procedure has priority, so that priority workers have something to take.
    pub(crate) fn has_priority(&self) -> bool {
        self.procedures.iter().any(|procedure| procedure.priority && procedure.class == Class::Blocking)
    }

    pub(crate) fn procedure(&self, entry: u32) -> &ProcedureEntry {
        // Indices come from `find` only, and procedures are never removed.
        &self.procedures[entry as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Event;
    use crate::program::Procedure;

    fn program(name: &str, number: u32, version: u32, procedures: &[(i32, &str)]) -> Program {
        let mut program = Program::new(name, number, version);
        for &(number, name) in procedures {
            let name = name.to_owned();
            program.procedures.push(Procedure {
                number,
                name,
                class: Class::Inline,
                priority: false,
                runs_to_end: false,
                schemas: None,
                group: 0,
                run: 0,
            });
        }
        program
    }

    #[test]
    fn versions_stand_side_by_side_and_unknown_ones_list_those_that_exist() {
        let registry =
            Registry::new(vec![program("a", 7, 2, &[(1, "x")]), program("a", 7, 1, &[(1, "x"), (2, "y")])], 0).unwrap();
        assert_ne!(registry.find(7, 1, 1).unwrap(), registry.find(7, 2, 1).unwrap());
        assert_eq!(registry.find(7, 2, 2).unwrap_err().code().as_str(), "unknown_procedure");
        assert_eq!(registry.find(8, 1, 1).unwrap_err().code().as_str(), "unknown_program");
        let error = registry.find(7, 3, 1).unwrap_err();
        assert_eq!(error.code().as_str(), "unknown_version");
        assert!(error.message().contains("1, 2"), "{error}");
    }

    #[test]
    fn a_name_means_the_highest_version_unless_it_names_one() {
        let programs = vec![program("a", 7, 2, &[(1, "x")]), program("a", 7, 1, &[(1, "x"), (2, "y")])];
        let registry = Registry::new(programs, 0).unwrap();
        let found = |method: &str| registry.find_method(method).map(|entry| registry.procedure(entry).version);
        assert_eq!([found("a.x"), found("a/2.x"), found("a/1.x"), found("a/1.y")], [Ok(2), Ok(2), Ok(1), Ok(1)]);
        for (method, told) in [
            ("a.y", "unknown_procedure: program a version 2 has no procedure \"y\""),
            ("b.x", "unknown_program: there is no program \"b\""),
            ("a/3.x", "unknown_version: program a (0x00000007) has no version 3; it has: 1, 2"),
            ("a", "unknown_procedure: method \"a\" is neither"),
            ("a/0.x", "unknown_procedure: method \"a/0.x\" names a version"),
        ] {
            let error = found(method).unwrap_err().to_string();
            assert!(error.starts_with(told), "{error}");
        }
        let long = found(&format!("{}.x", "ü".repeat(1_000_000))).unwrap_err();
        assert!(long.message().len() < 200, "{long}");
    }

    #[test]
    fn what_is_refused_is_refused_in_the_codec_of_its_program() {
        let (old, new) = (program("a", 7, 1, &[]), program("a", 7, 2, &[]).codec(Codec::Xdr));
        let registry = Registry::new(vec![old, new, program("b", 8, 1, &[])], 0).unwrap();
        let codecs = [(7, 1), (7, 2), (7, 3), (8, 1), (9, 1), (0x2000_8086, 1)];
        let xdr = codecs.map(|(program, version)| registry.codec(program, version) == Codec::Xdr);
        assert_eq!(xdr, [false, true, true, false, false, true]);
    }

    #[test]
    fn all_faults_of_a_declaration_are_told_at_once() {
        let faults = Registry::new(
            vec![
                program("a", 7, 0, &[(0, "x"), (1, "x"), (1, "a.b")]),
                program("a", 8, 1, &[]),
                program("b", 7, 0, &[]),
            ],
            0,
        )
        .unwrap_err();
        assert_eq!(faults.0.len(), 8, "{faults}");
    }

    #[test]
    fn faults_of_events_are_told_with_the_others() {
        let program = program("a", 7, 0, &[])
            .event(Event::<u32>::new(0, "x"))
            .event(Event::<u32>::new(1, "x"))
            .event(Event::<str>::new(1, "a.b"));
        let faults = Registry::new(vec![program], 0).unwrap_err();
        assert_eq!(faults.0.len(), 5, "{faults}");
    }
}
