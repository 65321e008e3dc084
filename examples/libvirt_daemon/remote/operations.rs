//! What is done to domains that are there. Each waits for the domain's actor, on the worker's own thread.

use postroom::Call;

use super::types::DomainRef;
use super::{Remote, procedure};
use crate::model::fault::{Fault, check_flags};
use crate::model::inventory::Card;
use crate::model::machine::{Machine, Operation};

/// `VIR_DOMAIN_DESTROY_GRACEFUL`: not by force. A made-up guest never needs any.
const DESTROY_GRACEFUL: u32 = 1 << 0;
/// `VIR_DOMAIN_SHUTDOWN_*` and `VIR_DOMAIN_REBOOT_*`: by which way the guest is asked. Each works.
const ANY_WAY: u32 = (1 << 5) - 1;

impl Remote {
    /// What a domain says it is.
    pub(super) fn ask<M>(&self, call: &Call<M>, domain: &DomainRef) -> Result<Machine, Fault> {
        let is_wanted = || !call.is_cancelled();
        self.hypervisor.perform(domain.uuid(), &domain.name, None, is_wanted)
    }

    /// Has a domain do something; what it is afterwards.
    pub(super) fn perform<M>(&self, call: &Call<M>, domain: &DomainRef, what: Operation) -> Result<Card, Fault> {
        let is_wanted = || !call.is_cancelled();
        let machine = self.hypervisor.perform(domain.uuid(), &domain.name, Some(what), is_wanted)?;
        Ok(Card::of(&machine))
    }
}

procedure!(
    Create { dom: DomainRef } -> (): |remote, call| remote.perform(&call, &call.args.dom, Operation::Start).map(drop)
);

procedure!(
    CreateWithFlags { dom: DomainRef, flags: u32 } -> DomainRef: |remote, call| {
        check_flags(call.args.flags, 0, "DomainCreateWithFlags")?;
        remote.perform(&call, &call.args.dom, Operation::Start).map(|card| DomainRef::from(&card))
    }
);

procedure!(
    Suspend { dom: DomainRef } -> (): |remote, call| remote.perform(&call, &call.args.dom, Operation::Suspend).map(drop)
);

procedure!(
    Resume { dom: DomainRef } -> (): |remote, call| remote.perform(&call, &call.args.dom, Operation::Resume).map(drop)
);

procedure!(
    Reboot { dom: DomainRef, flags: u32 } -> (): |remote, call| {
        check_flags(call.args.flags, ANY_WAY, "DomainReboot")?;
        remote.perform(&call, &call.args.dom, Operation::Reboot).map(drop)
    }
);

procedure!(
    Shutdown { dom: DomainRef } -> (): |remote, call| {
        remote.perform(&call, &call.args.dom, Operation::Shutdown).map(drop)
    }
);

procedure!(
    ShutdownFlags { dom: DomainRef, flags: u32 } -> (): |remote, call| {
        check_flags(call.args.flags, ANY_WAY, "DomainShutdownFlags")?;
        remote.perform(&call, &call.args.dom, Operation::Shutdown).map(drop)
    }
);

procedure!(
    /// It does not wait for a domain that is just starting.
    Destroy { dom: DomainRef } -> (): |remote, call| remote.perform(&call, &call.args.dom, Operation::Destroy).map(drop)
);

procedure!(
    DestroyFlags { dom: DomainRef, flags: u32 } -> (): |remote, call| {
        check_flags(call.args.flags, DESTROY_GRACEFUL, "DomainDestroyFlags")?;
        remote.perform(&call, &call.args.dom, Operation::Destroy).map(drop)
    }
);

procedure!(
    SetAutostart { dom: DomainRef, autostart: i32 } -> (): |remote, call| {
        let operation = Operation::SetAutostart(call.args.autostart != 0);
        remote.perform(&call, &call.args.dom, operation).map(drop)
    }
);
