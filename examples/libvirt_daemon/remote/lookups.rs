//! Look-ups: what the inventory knows, and what a domain says of itself.

use super::types::{DomainInfo, DomainList, DomainRef, DomainState};
use super::{Remote, procedure};
use crate::model::fault::{Fault, check_flags};
use crate::model::inventory::{self, Card};
use crate::model::uuid::Uuid;
use postroom::xdr::Fixed;

/// `VIR_DOMAIN_XML_SECURE`: with passwords, of which there are none.
const XML_SECURE: u32 = 1 << 0;
/// `VIR_DOMAIN_XML_INACTIVE`: as it will be when it is started next.
const XML_INACTIVE: u32 = 1 << 1;

impl Remote {
    fn card(&self, domain: &DomainRef) -> Result<Card, Fault> {
        self.hypervisor.inventory().by_reference(domain.uuid(), &domain.name).map(|(card, _)| card)
    }
}

procedure!(
    ListAllDomains { need_results: i32, flags: u32 } -> DomainList: |remote, call| {
        let flags = call.args.flags;
        check_flags(flags, inventory::LIST_FLAGS, "ConnectListAllDomains")?;
        let mut cards = remote.hypervisor.inventory().list();
        cards.retain(|card| inventory::is_listed(card, flags));
        // The inventory holds at most as many as a list may have.
        let ret = cards.len() as u32;
        if call.args.need_results == 0 {
            cards.clear();
        }
        Ok(DomainList { domains: cards.iter().map(DomainRef::from).collect(), ret })
    }
);

procedure!(
    LookupById { id: i32 } -> DomainRef: |remote, call| {
        remote.hypervisor.inventory().by_id(call.args.id).map(|(card, _)| DomainRef::from(&card))
    }
);

procedure!(
    LookupByName { name: String } -> DomainRef: |remote, call| {
        remote.hypervisor.inventory().by_name(&call.args.name).map(|(card, _)| DomainRef::from(&card))
    }
);

procedure!(
    LookupByUuid { uuid: Fixed<16> } -> DomainRef: |remote, call| {
        remote.hypervisor.inventory().by_uuid(Uuid(call.args.uuid.0)).map(|(card, _)| DomainRef::from(&card))
    }
);

procedure!(
    GetState { dom: DomainRef, flags: u32 } -> DomainState: |remote, call| {
        check_flags(call.args.flags, 0, "DomainGetState")?;
        let state = remote.card(&call.args.dom)?.state;
        Ok(DomainState { state: state.state, reason: state.reason })
    }
);

procedure!(GetOsType { dom: DomainRef } -> String: |remote, call| Ok(remote.card(&call.args.dom)?.os_type));

procedure!(
    IsActive { dom: DomainRef } -> i32: |remote, call| Ok(remote.card(&call.args.dom)?.state.is_active().into())
);

procedure!(
    IsPersistent { dom: DomainRef } -> i32: |remote, call| Ok(remote.card(&call.args.dom)?.is_persistent.into())
);

procedure!(
    GetAutostart { dom: DomainRef } -> i32: |remote, call| Ok(remote.card(&call.args.dom)?.is_autostarted.into())
);

procedure!(
    /// There are no snapshots.
    SnapshotNum { dom: DomainRef, _flags: u32 } -> i32: |remote, call| remote.card(&call.args.dom).map(|_| 0)
);

procedure!(
    /// Nor is anything saved.
    HasManagedSaveImage { dom: DomainRef, _flags: u32 } -> i32: |remote, call| remote.card(&call.args.dom).map(|_| 0)
);

procedure!(
    /// Asks the domain itself, as libvirt would ask a hypervisor: it waits while the domain starts.
    GetInfo { dom: DomainRef } -> DomainInfo: |remote, call| {
        let machine = remote.ask(&call, &call.args.dom)?;
        let definition = machine.definition();
        Ok(DomainInfo {
            // States are small numbers.
            state: machine.state().state as u8,
            max_mem: definition.memory,
            memory: definition.current_memory,
            nr_virt_cpu: definition.vcpus,
            cpu_time: 0,
        })
    }
);

procedure!(
    GetXmlDesc { dom: DomainRef, flags: u32 } -> String: |remote, call| {
        check_flags(call.args.flags, XML_SECURE | XML_INACTIVE, "DomainGetXMLDesc")?;
        let machine = remote.ask(&call, &call.args.dom)?;
        Ok(machine.xml(call.args.flags & XML_INACTIVE != 0))
    }
);
