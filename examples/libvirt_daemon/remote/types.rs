//! What goes over the wire, as `remote_protocol.x` of libvirt declares it: XDR structures, field by field in its order.
//!
//! The arguments of procedures are declared beside their handlers. A `remote_nonnull_string` is a `String`, a
//! `remote_string` an `Option<String>`, a `remote_uuid` a `Fixed<16>`; `char` and `short` widen to four bytes by
//! themselves. A structure of one field is the same as that field, so most results are plain `String`s and integers.

use postroom::xdr::Fixed;
use serde::{Deserialize, Serialize};

use crate::model::inventory::Card;
use crate::model::uuid::Uuid;

/// `remote_nonnull_domain`: a domain, as client and service name it to each other.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DomainRef {
    pub name: String,
    pub uuid: Fixed<16>,
    /// Its number while it runs, else -1. Only that which the service sends means anything.
    pub id: i32,
}

impl DomainRef {
    pub fn uuid(&self) -> Uuid {
        Uuid(self.uuid.0)
    }
}

impl From<&Card> for DomainRef {
    fn from(card: &Card) -> Self {
        Self { name: card.name.clone(), uuid: Fixed(card.uuid.0), id: card.id.unwrap_or(-1) }
    }
}

/// `remote_connect_list_all_domains_ret`.
#[derive(Debug, Serialize)]
pub struct DomainList {
    pub domains: Vec<DomainRef>,
    pub ret: u32,
}

/// `remote_domain_get_state_ret`.
#[derive(Debug, Serialize)]
pub struct DomainState {
    pub state: i32,
    pub reason: i32,
}

/// `remote_domain_get_info_ret`.
#[derive(Debug, Serialize)]
pub struct DomainInfo {
    pub state: u8,
    pub max_mem: u64,
    pub memory: u64,
    pub nr_virt_cpu: u16,
    pub cpu_time: u64,
}

/// `remote_node_get_info_ret`.
#[derive(Debug, Serialize)]
pub struct NodeInfo {
    /// `char model[32]`, each in a word of its own; it ends with a zero.
    pub model: [i8; 32],
    pub memory: u64,
    pub cpus: i32,
    pub mhz: i32,
    pub nodes: i32,
    pub sockets: i32,
    pub cores: i32,
    pub threads: i32,
}

/// `remote_domain_event_callback_lifecycle_msg`.
#[derive(Debug, Serialize)]
pub struct Lifecycle {
    pub callback_id: i32,
    pub dom: DomainRef,
    pub event: i32,
    pub detail: i32,
}
