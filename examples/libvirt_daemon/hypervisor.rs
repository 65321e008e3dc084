//! The made-up hypervisor: all domains, and the thread that their actors live on.
//!
//! Handlers look domains up in its inventory and have them do things; domains renew their cards there and announce
//! what happens to them. The inventory's lock is held for moments only, never while anything waits.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;

use actix::{Arbiter, ArbiterHandle, System};

use crate::domain::{Handle, Silence};
use crate::model::definition::Definition;
use crate::model::fault::{Fault, Kind, Origin};
use crate::model::inventory::{Card, Inventory};
use crate::model::machine::{Machine, Operation, Step};
use crate::model::uuid::Uuid;

/// Tells whoever has registered for it what has happened to a domain.
type Announce = Box<dyn Fn(&Card, Step) + Send + Sync>;

/// All domains.
pub struct Hypervisor {
    inventory: Mutex<Inventory<Handle>>,
    arbiter: ArbiterHandle,
    announce: Announce,
}

impl Hypervisor {
    /// The inventory, locked for a moment.
    pub fn inventory(&self) -> MutexGuard<'_, Inventory<Handle>> {
        // A thread that panicked while it held the lock left it whole: a change that is not made does no harm.
        self.inventory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the actors of domains live.
    pub fn arbiter(&self) -> &ArbiterHandle {
        &self.arbiter
    }

    pub fn announce(&self, card: &Card, step: Step) {
        (self.announce)(card, step);
    }

    /// Has the domain with this UUID do something, or only say what it is; on a worker's thread, which waits for it.
    pub fn perform(
        &self,
        uuid: Uuid,
        name: &str,
        operation: Option<Operation>,
        is_wanted: impl Fn() -> bool,
    ) -> Result<Machine, Fault> {
        let (_, domain) = self.inventory().by_reference(uuid, name)?;
        match domain.ask(operation)?.wait(is_wanted) {
            Ok(result) => result,
            Err(Silence::Gone) => {
                self.forget(uuid, &domain);
                Err(Fault::no_domain(format!("no domain with matching uuid '{uuid}' ({name})")))
            }
            Err(Silence::Unwanted) => Err(unwanted()),
        }
    }

    /// Defines a domain and starts it, before there is anybody else.
    pub fn start_with(self: &Arc<Self>, definition: Definition) -> Result<Machine, Fault> {
        let card = self.define(definition, || true)?;
        self.perform(card.uuid, &card.name, Some(Operation::Start), || true)
    }

    /// Defines a domain: a new one, or one that is there already.
    pub fn define(self: &Arc<Self>, definition: Definition, is_wanted: impl Fn() -> bool) -> Result<Card, Fault> {
        self.find_or_insert(&definition, Machine::defined, Operation::Define, is_wanted)
    }

    /// Starts a domain that is there only for as long as it runs; or one that is defined, as something else until it
    /// stops.
    pub fn create(self: &Arc<Self>, definition: Definition, is_wanted: impl Fn() -> bool) -> Result<Card, Fault> {
        self.find_or_insert(&definition, Machine::transient, Operation::Create, is_wanted)
    }

    /// Has the domain of this definition do something with it, be it there already or not.
    fn find_or_insert(
        self: &Arc<Self>,
        definition: &Definition,
        make: fn(Definition) -> Machine,
        operation: fn(Definition) -> Operation,
        is_wanted: impl Fn() -> bool,
    ) -> Result<Card, Fault> {
        loop {
            let (domain, answer) = {
                let mut inventory = self.inventory();
                let there = inventory.find(definition)?;
                let domain = match there {
                    Some((_, domain)) => domain,
                    None => {
                        inventory.check_room()?;
                        let machine = make(definition.clone());
                        let card = Card::of(&machine);
                        let is_complete = machine.is_persistent();
                        let domain = Handle::start(machine, self);
                        inventory.insert(card.clone(), domain.clone());
                        if is_complete {
                            return Ok(card);
                        }
                        domain
                    }
                };
                // With the lock still held, so that a new domain is asked this first.
                let answer = domain.ask(Some(operation(definition.clone())))?;
                (domain, answer)
            };
            match answer.wait(&is_wanted) {
                Ok(result) => return result.map(|machine| Card::of(&machine)),
                // It ended meanwhile, and the next look does not find it.
                Err(Silence::Gone) => self.forget(definition.uuid, &domain),
                Err(Silence::Unwanted) => return Err(unwanted()),
            }
        }
    }

    /// A domain gives no answer any more. It has left the inventory itself, unless its actor has panicked.
    fn forget(&self, uuid: Uuid, domain: &Handle) {
        let mut inventory = self.inventory();
        if inventory.by_uuid(uuid).is_ok_and(|(_, there)| there == *domain) {
            inventory.remove(uuid);
        }
    }
}

/// Nobody is told this: who asked has left, or was told something else already.
fn unwanted() -> Fault {
    Fault::new(Kind::OperationFailed, Origin::Driver, "nobody waits for it any more")
}

/// The thread of the domains' actors. They end with it.
pub struct Machinery {
    system: System,
    thread: Option<JoinHandle<()>>,
}

impl Machinery {
    /// Starts the thread, and the hypervisor that has it, without domains.
    pub fn start(announce: Announce) -> io::Result<(Self, Arc<Hypervisor>)> {
        let (tell, told) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("domains".to_owned()).spawn(move || {
            let runner = System::new();
            // The other side waits for it.
            let _ = tell.send((System::current(), Arbiter::current()));
            if let Err(error) = runner.run() {
                log::error!("the thread of the domains has ended: {error}");
            }
        })?;
        let (system, arbiter) = told.recv().map_err(io::Error::other)?;
        let machinery = Self { system, thread: Some(thread) };
        Ok((machinery, Arc::new(Hypervisor { inventory: Mutex::default(), arbiter, announce })))
    }
}

impl Drop for Machinery {
    fn drop(&mut self) {
        self.system.stop();
        if let Some(thread) = self.thread.take() {
            // What it panicked with it has told itself.
            let _ = thread.join();
        }
    }
}
