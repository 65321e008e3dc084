//! The state machine of one domain: what may be done to it when, and what that is called afterwards.
//!
//! Plain code: who may call at the same time, and who is told, is the affair of the actor that owns it.

use std::time::Duration;

use super::definition::Definition;
use super::fault::Fault;

/// What a domain is doing, and why: `virDomainState` and its reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    pub state: i32,
    pub reason: i32,
}

impl State {
    pub const BOOTED: Self = Self { state: Self::RUNNING, reason: 1 };
    pub const UNPAUSED: Self = Self { state: Self::RUNNING, reason: 5 };
    pub const PAUSED_BY_USER: Self = Self { state: Self::PAUSED, reason: 1 };
    pub const NEVER_STARTED: Self = Self { state: Self::SHUTOFF, reason: 0 };
    pub const SHUT_DOWN: Self = Self { state: Self::SHUTOFF, reason: 1 };
    pub const DESTROYED: Self = Self { state: Self::SHUTOFF, reason: 2 };

    const RUNNING: i32 = 1;
    const PAUSED: i32 = 3;
    const SHUTOFF: i32 = 5;

    pub fn is_active(self) -> bool {
        self.state != Self::SHUTOFF
    }
}

/// A step in the life of a domain that others are told of: `virDomainEventType` and its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub event: i32,
    pub detail: i32,
}

impl Step {
    pub const ADDED: Self = Self { event: 0, detail: 0 };
    pub const UPDATED: Self = Self { event: 0, detail: 1 };
    pub const UNDEFINED: Self = Self { event: 1, detail: 0 };
    pub const STARTED: Self = Self { event: 2, detail: 0 };
    pub const SUSPENDED: Self = Self { event: 3, detail: 0 };
    pub const RESUMED: Self = Self { event: 4, detail: 0 };
    pub const SHUT_DOWN: Self = Self { event: 5, detail: 0 };
    pub const DESTROYED: Self = Self { event: 5, detail: 1 };
}

/// What may be done to a domain.
#[derive(Debug)]
pub enum Operation {
    Define(Definition),
    Undefine,
    /// Starts it as what it was defined as.
    Start,
    /// Starts it as this, until it stops.
    Create(Definition),
    Suspend,
    Resume,
    Reboot,
    Shutdown,
    Destroy,
    SetAutostart(bool),
}

/// A domain.
#[derive(Clone, Debug)]
pub struct Machine {
    /// What it is while it runs, or was last; without one that is persistent it exists only while it runs.
    live: Definition,
    /// What it will be when it is started next.
    persistent: Option<Definition>,
    state: State,
    id: Option<i32>,
    is_autostarted: bool,
}

impl Machine {
    /// One that is defined and does not run.
    pub fn defined(definition: Definition) -> Self {
        Self {
            live: definition.clone(),
            persistent: Some(definition),
            state: State::NEVER_STARTED,
            id: None,
            is_autostarted: false,
        }
    }

    /// One that has no persistent definition; it is to be started at once.
    pub fn transient(definition: Definition) -> Self {
        Self { live: definition, persistent: None, state: State::NEVER_STARTED, id: None, is_autostarted: false }
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// Its number while it runs.
    pub fn id(&self) -> Option<i32> {
        self.id
    }

    pub fn is_persistent(&self) -> bool {
        self.persistent.is_some()
    }

    pub fn is_autostarted(&self) -> bool {
        self.is_autostarted
    }

    /// What it is now.
    pub fn definition(&self) -> &Definition {
        &self.live
    }

    /// Whether it is to be forgotten: it neither runs nor is defined.
    pub fn is_over(&self) -> bool {
        !self.state.is_active() && self.persistent.is_none()
    }

    /// The XML: what it is now, or, with `inactive`, what it will be when it is started next.
    pub fn xml(&self, inactive: bool) -> String {
        match &self.persistent {
            Some(definition) if inactive => definition.to_xml(None),
            _ => self.live.to_xml(if inactive { None } else { self.id }),
        }
    }

    /// How long an operation takes before it is done.
    pub fn boot(&self, operation: &Operation) -> Duration {
        match operation {
            // One that runs already is told so at once.
            _ if self.state.is_active() => Duration::ZERO,
            Operation::Start => self.persistent.as_ref().unwrap_or(&self.live).boot,
            Operation::Create(definition) => definition.boot,
            _ => Duration::ZERO,
        }
    }

    /// Does something to it: the step that others are to be told, if it is one. `next_id` gives it the number by which
    /// it runs.
    pub fn perform(&mut self, operation: Operation, next_id: impl FnOnce() -> i32) -> Result<Option<Step>, Fault> {
        match operation {
            Operation::Define(definition) => Ok(Some(self.define(definition))),
            Operation::Undefine => self.undefine().map(Some),
            Operation::Start => self.start(next_id).map(Some),
            Operation::Create(definition) => self.create(definition, next_id).map(Some),
            Operation::Suspend => self.suspend().map(Some),
            Operation::Resume => self.resume().map(Some),
            Operation::Shutdown => self.shutdown().map(Some),
            Operation::Destroy => self.destroy().map(Some),
            // It is back at once, and nothing that can be seen of it has changed.
            Operation::Reboot => self.check_active().map(|()| None),
            Operation::SetAutostart(autostart) => self.set_autostart(autostart).map(|()| None),
        }
    }

    /// Gives it another definition, which holds from its next start on.
    fn define(&mut self, definition: Definition) -> Step {
        if !self.state.is_active() {
            self.live = definition.clone();
        }
        // A transient domain becomes persistent by it, which is no update.
        if self.persistent.replace(definition).is_some() { Step::UPDATED } else { Step::ADDED }
    }

    /// Takes its definition away. What runs goes on until it stops.
    fn undefine(&mut self) -> Result<Step, Fault> {
        self.persistent.take().ok_or_else(|| Fault::invalid("cannot undefine transient domain"))?;
        self.is_autostarted = false;
        Ok(Step::UNDEFINED)
    }

    fn start(&mut self, next_id: impl FnOnce() -> i32) -> Result<Step, Fault> {
        if self.state.is_active() {
            return Err(Fault::internal(format!("Domain '{}' is already running", self.live.name)));
        }
        (self.state, self.id) = (State::BOOTED, Some(next_id()));
        Ok(Step::STARTED)
    }

    fn create(&mut self, definition: Definition, next_id: impl FnOnce() -> i32) -> Result<Step, Fault> {
        if self.state.is_active() {
            return Err(Fault::invalid(format!("domain '{}' is already active", self.live.name)));
        }
        self.live = definition;
        self.start(next_id)
    }

    fn suspend(&mut self) -> Result<Step, Fault> {
        if self.state.state != State::RUNNING {
            return Err(Fault::internal(format!("domain '{}' not running", self.live.name)));
        }
        self.state = State::PAUSED_BY_USER;
        Ok(Step::SUSPENDED)
    }

    fn resume(&mut self) -> Result<Step, Fault> {
        if self.state.state != State::PAUSED {
            return Err(Fault::internal(format!("domain '{}' not paused", self.live.name)));
        }
        self.state = State::UNPAUSED;
        Ok(Step::RESUMED)
    }

    /// Asks the guest to shut down, which a made-up one does at once.
    fn shutdown(&mut self) -> Result<Step, Fault> {
        if !self.state.is_active() {
            return Err(Fault::internal(format!("domain '{}' not running", self.live.name)));
        }
        self.stop(State::SHUT_DOWN);
        Ok(Step::SHUT_DOWN)
    }

    /// Stops it without asking the guest.
    fn destroy(&mut self) -> Result<Step, Fault> {
        self.check_active()?;
        self.stop(State::DESTROYED);
        Ok(Step::DESTROYED)
    }

    fn set_autostart(&mut self, autostart: bool) -> Result<(), Fault> {
        if self.persistent.is_none() {
            return Err(Fault::invalid("cannot set autostart for transient domain"));
        }
        self.is_autostarted = autostart;
        Ok(())
    }

    fn check_active(&self) -> Result<(), Fault> {
        if self.state.is_active() { Ok(()) } else { Err(Fault::invalid("domain is not running")) }
    }

    fn stop(&mut self, state: State) {
        (self.state, self.id) = (state, None);
        if let Some(definition) = &self.persistent {
            self.live = definition.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(memory: u64) -> Definition {
        let xml = format!(
            "<domain type='test'><name>web</name><uuid>8f4c1f5e-1111-2222-3333-444455556666</uuid>\
             <memory>{memory}</memory><os><type>hvm</type></os></domain>"
        );
        Definition::parse(&xml).unwrap()
    }

    fn message(result: Result<Step, Fault>) -> String {
        result.unwrap_err().message
    }

    #[test]
    fn a_domain_lives_from_its_definition_to_its_end() {
        let mut machine = Machine::defined(definition(1024));
        assert_eq!((machine.state(), machine.id()), (State::NEVER_STARTED, None));
        assert_eq!(machine.start(|| 7), Ok(Step::STARTED));
        assert_eq!((machine.state(), machine.id()), (State::BOOTED, Some(7)));
        assert_eq!(machine.suspend(), Ok(Step::SUSPENDED));
        assert_eq!(machine.state(), State::PAUSED_BY_USER);
        assert_eq!(machine.resume(), Ok(Step::RESUMED));
        assert_eq!(machine.state(), State::UNPAUSED);
        assert_eq!(machine.shutdown(), Ok(Step::SHUT_DOWN));
        assert_eq!((machine.state(), machine.id()), (State::SHUT_DOWN, None));
        assert_eq!(machine.start(|| 8), Ok(Step::STARTED));
        assert_eq!(machine.destroy(), Ok(Step::DESTROYED));
        assert_eq!(machine.state(), State::DESTROYED);
        assert_eq!(machine.undefine(), Ok(Step::UNDEFINED));
        assert!(machine.is_over());
    }

    #[test]
    fn what_its_state_does_not_allow_is_refused_in_libvirts_words() {
        let mut machine = Machine::defined(definition(1024));
        assert_eq!(message(machine.suspend()), "internal error: domain 'web' not running");
        assert_eq!(message(machine.resume()), "internal error: domain 'web' not paused");
        assert_eq!(message(machine.shutdown()), "internal error: domain 'web' not running");
        assert_eq!(message(machine.destroy()), "Requested operation is not valid: domain is not running");
        machine.start(|| 1).unwrap();
        assert_eq!(message(machine.start(|| 2)), "internal error: Domain 'web' is already running");
        assert_eq!(message(machine.resume()), "internal error: domain 'web' not paused");
        machine.suspend().unwrap();
        assert_eq!(message(machine.suspend()), "internal error: domain 'web' not running");
        assert_eq!(machine.id(), Some(1));
    }

    #[test]
    fn a_paused_domain_can_be_shut_down_and_destroyed() {
        let mut machine = Machine::defined(definition(1024));
        for end in [Machine::shutdown, Machine::destroy] {
            machine.start(|| 1).unwrap();
            machine.suspend().unwrap();
            end(&mut machine).unwrap();
            assert!(!machine.state().is_active());
        }
    }

    #[test]
    fn a_domain_that_runs_keeps_its_definition_until_its_next_start() {
        let mut machine = Machine::defined(definition(1024));
        machine.start(|| 1).unwrap();
        assert_eq!(machine.define(definition(2048)), Step::UPDATED);
        assert_eq!(machine.definition().memory, 1024);
        assert!(machine.xml(false).contains("id='1'") && machine.xml(false).contains(">1024<"));
        assert!(machine.xml(true).contains(">2048<") && !machine.xml(true).contains("id="));
        machine.destroy().unwrap();
        assert_eq!(machine.definition().memory, 2048);
    }

    #[test]
    fn a_domain_that_is_undefined_while_it_runs_ends_when_it_stops() {
        let mut machine = Machine::defined(definition(1024));
        machine.start(|| 1).unwrap();
        machine.undefine().unwrap();
        assert!(!machine.is_over() && !machine.is_persistent());
        assert_eq!(message(machine.undefine()), "Requested operation is not valid: cannot undefine transient domain");
        machine.shutdown().unwrap();
        assert!(machine.is_over());
    }

    #[test]
    fn a_domain_that_is_created_is_something_else_until_it_stops() {
        let mut machine = Machine::defined(definition(1024));
        machine.create(definition(2048), || 1).unwrap();
        assert_eq!(machine.definition().memory, 2048);
        let again = message(machine.create(definition(1), || 2));
        assert_eq!(again, "Requested operation is not valid: domain 'web' is already active");
        machine.destroy().unwrap();
        assert_eq!(machine.definition().memory, 1024);
    }

    #[test]
    fn only_what_starts_takes_its_time() {
        let slow = Definition { boot: Duration::from_secs(3), ..definition(1024) };
        let mut machine = Machine::defined(slow.clone());
        assert_eq!(machine.boot(&Operation::Start), Duration::from_secs(3));
        assert_eq!(machine.boot(&Operation::Create(definition(1024))), Duration::ZERO);
        assert_eq!(machine.boot(&Operation::Undefine), Duration::ZERO);
        assert_eq!(machine.perform(Operation::Start, || 1), Ok(Some(Step::STARTED)));
        assert_eq!(machine.boot(&Operation::Create(slow)), Duration::ZERO);
        assert_eq!(machine.perform(Operation::Reboot, || 2), Ok(None));
        assert_eq!(machine.id(), Some(1));
    }

    #[test]
    fn a_transient_domain_becomes_persistent_by_being_defined() {
        let mut machine = Machine::transient(definition(1024));
        machine.start(|| 1).unwrap();
        assert!(machine.set_autostart(true).is_err());
        assert_eq!(machine.define(definition(1024)), Step::ADDED);
        assert!(machine.is_persistent());
        machine.set_autostart(true).unwrap();
        assert!(machine.is_autostarted());
    }
}
