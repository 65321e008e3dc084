//! Domains that come and go.

use super::types::DomainRef;
use super::{Remote, procedure};
use crate::model::definition::Definition;
use crate::model::fault::{Fault, check_flags};
use crate::model::machine::Operation;

/// `VIR_DOMAIN_UNDEFINE_MANAGED_SAVE` and `VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA`: with what there is none of.
const WITH_NOTHING: u32 = 1 << 0 | 1 << 1;

procedure!(
    /// Starts a domain that is there for as long as it runs.
    CreateXml { xml: String, flags: u32 } -> DomainRef: |remote, call| {
        check_flags(call.args.flags, 0, "DomainCreateXML")?;
        let definition = Definition::parse(&call.args.xml)?;
        remote.hypervisor.create(definition, || !call.is_cancelled()).map(|card| DomainRef::from(&card))
    }
);

procedure!(
    DefineXml { xml: String } -> DomainRef: |remote, call| {
        let definition = Definition::parse(&call.args.xml)?;
        remote.hypervisor.define(definition, || !call.is_cancelled()).map(|card| DomainRef::from(&card))
    }
);

procedure!(
    DefineXmlFlags { xml: String, flags: u32 } -> DomainRef: |remote, call| {
        check_flags(call.args.flags, 0, "DomainDefineXMLFlags")?;
        let definition = Definition::parse(&call.args.xml)?;
        remote.hypervisor.define(definition, || !call.is_cancelled()).map(|card| DomainRef::from(&card))
    }
);

procedure!(
    Undefine { dom: DomainRef } -> (): |remote, call| {
        remote.perform(&call, &call.args.dom, Operation::Undefine).map(drop)
    }
);

procedure!(
    UndefineFlags { dom: DomainRef, flags: u32 } -> (): |remote, call| {
        check_flags(call.args.flags, WITH_NOTHING, "DomainUndefineFlags")?;
        remote.perform(&call, &call.args.dom, Operation::Undefine).map(drop)
    }
);
