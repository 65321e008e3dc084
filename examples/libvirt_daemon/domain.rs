//! The actor of one domain, and the handle by which others reach it.
//!
//! A [`Domain`] owns a [`Machine`]: it does one thing at a time to it, renews its card in the inventory, and announces
//! what has changed, in this order, before it answers. It decides nothing itself and never blocks: the time that a
//! machine takes to start passes in a future, and what comes meanwhile waits in the mailbox.
//!
//! Bound of its mailbox: [`MAX_WAITING`] operations, counted by permits that travel with them because a mailbox bounds
//! nothing itself; and the destroying ones, which need no permit because they wait for nothing. What is left in it by
//! callers that wait no longer is never begun.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Weak};
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::hypervisor::Hypervisor;
use crate::model::fault::Fault;
use crate::model::inventory::Card;
use crate::model::machine::{Machine, Operation, Step};

/// How often a worker that waits for a domain looks whether its own caller still does.
const LOOK: Duration = Duration::from_millis(100);

/// So many operations may wait for one domain.
const MAX_WAITING: usize = 64;

/// Has a domain do something, or only say what it is; the answer comes by a channel because a worker waits for it.
#[derive(Message)]
#[rtype(result = "()")]
struct Perform {
    operation: Option<Operation>,
    answer: SyncSender<Result<Machine, Fault>>,
    /// Whether somebody still waits for the answer.
    wanted: Weak<()>,
    permit: Option<OwnedSemaphorePermit>,
}

/// The handle of a domain.
#[derive(Clone, Debug)]
pub struct Handle {
    address: Addr<Domain>,
    /// How many want it destroyed: that does not wait until it has started.
    destroyers: Arc<watch::Sender<u32>>,
    room: Arc<Semaphore>,
}

impl PartialEq for Handle {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address
    }
}

impl Handle {
    /// Starts the actor of a domain, with the machine that it gets.
    pub fn start(machine: Machine, hypervisor: &Arc<Hypervisor>) -> Self {
        let (destroyers, waiting) = watch::channel(0);
        let destroyers = Arc::new(destroyers);
        let domain = Domain { machine, hypervisor: hypervisor.clone(), destroyers: destroyers.clone(), waiting };
        let address = Domain::start_in_arbiter(hypervisor.arbiter(), |_| domain);
        Self { address, destroyers, room: Arc::new(Semaphore::new(MAX_WAITING)) }
    }

    /// Has the domain do something, or only say what it is, after all that it was asked before.
    pub fn ask(&self, operation: Option<Operation>) -> Result<Answer, Fault> {
        let permit = if matches!(operation, Some(Operation::Destroy)) {
            self.destroyers.send_modify(|destroyers| *destroyers += 1);
            None
        } else {
            Some(self.room.clone().try_acquire_owned().map_err(|_| {
                Fault::timed_out(format!("cannot acquire state change lock: {MAX_WAITING} operations wait for it"))
            })?)
        };
        let (answer, answered) = mpsc::sync_channel(1);
        let wanted = Arc::new(());
        // To a domain that is gone it is dropped, and with it the sender of the answer.
        self.address.do_send(Perform { operation, answer, wanted: Arc::downgrade(&wanted), permit });
        Ok(Answer { answered, _wanted: wanted })
    }
}

/// The answer of a domain, which may take its time.
pub struct Answer {
    answered: Receiver<Result<Machine, Fault>>,
    _wanted: Arc<()>,
}

/// Why a domain gave no answer.
pub enum Silence {
    /// It is gone: it was undefined, or ended, just before.
    Gone,
    /// Nobody waits for the answer any more.
    Unwanted,
}

impl Answer {
    /// Waits for it on a worker's thread, for as long as `is_wanted`: the machine as it is afterwards.
    pub fn wait(self, is_wanted: impl Fn() -> bool) -> Result<Result<Machine, Fault>, Silence> {
        loop {
            match self.answered.recv_timeout(LOOK) {
                Ok(result) => return Ok(result),
                Err(RecvTimeoutError::Disconnected) => return Err(Silence::Gone),
                Err(RecvTimeoutError::Timeout) if is_wanted() => {}
                Err(RecvTimeoutError::Timeout) => return Err(Silence::Unwanted),
            }
        }
    }
}

/// The actor of a domain.
pub struct Domain {
    machine: Machine,
    hypervisor: Arc<Hypervisor>,
    destroyers: Arc<watch::Sender<u32>>,
    waiting: watch::Receiver<u32>,
}

impl Actor for Domain {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        // Before anything is asked of it, so that others hear of this first.
        if self.machine.is_persistent() {
            self.hypervisor.announce(&Card::of(&self.machine), Step::ADDED);
        }
    }
}

impl Handler<Perform> for Domain {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, perform: Perform, _: &mut Self::Context) -> Self::Result {
        let Perform { operation, answer, wanted, permit } = perform;
        if matches!(operation, Some(Operation::Destroy)) {
            self.destroyers.send_modify(|destroyers| *destroyers -= 1);
        }
        let operation = operation.filter(|_| wanted.strong_count() > 0);
        let boot = operation.as_ref().map_or(Duration::ZERO, |operation| self.machine.boot(operation));
        let mut waiting = self.waiting.clone();
        let booted = async move {
            if !boot.is_zero() {
                // Whichever comes first; the sender lives as long as this actor.
                let _ = tokio::time::timeout(boot, waiting.wait_for(|destroyers| *destroyers > 0)).await;
            }
        };
        AtomicResponse::new(Box::pin(booted.into_actor(self).map(move |(), domain, ctx| {
            let done = operation.map_or(Ok(()), |operation| domain.perform(operation));
            if domain.machine.is_over() {
                ctx.stop();
            }
            drop(permit);
            // One whose caller has left is not answered.
            let _ = answer.try_send(done.map(|()| domain.machine.clone()));
        })))
    }
}

impl Domain {
    fn perform(&mut self, operation: Operation) -> Result<(), Fault> {
        let step = self.machine.perform(operation, || self.hypervisor.inventory().next_id())?;
        let card = Card::of(&self.machine);
        if self.machine.is_over() {
            self.hypervisor.inventory().remove(card.uuid);
        } else {
            self.hypervisor.inventory().update(card.clone());
        }
        if let Some(step) = step {
            self.hypervisor.announce(&card, step);
        }
        Ok(())
    }
}
