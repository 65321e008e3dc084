//! libvirt's remote program: what `virsh` and everything else that is built on libvirt's library calls.
//!
//! [`program`] is the list of procedures with their numbers. Which have priority is what libvirt's own daemon says of
//! them: look-ups, lists, definitions and `destroy` have, because they are guaranteed to finish soon; whatever has to
//! ask a hypervisor has not. All are blocking procedures: what they wait for here is a lock or a domain's actor.
//!
//! Everything else that libvirt knows is answered "unknown procedure", by which its clients learn what a daemon does
//! not do.

mod connection;
mod definitions;
mod error;
mod events;
mod lookups;
mod operations;
mod types;

use std::sync::Arc;

use actix::prelude::*;
use postroom::{Codec, Program};

use crate::hypervisor::Hypervisor;
use connection::*;
use definitions::*;
pub use events::Registrations;
use lookups::*;
use operations::*;

/// The number of the program.
const REMOTE: u32 = 0x2000_8086;

/// The handler actor: each worker has one, and what they share is behind the hypervisor and the registrations.
pub struct Remote {
    hypervisor: Arc<Hypervisor>,
    registrations: Arc<Registrations>,
}

impl Actor for Remote {
    type Context = Context<Self>;
}

/// The program without its procedures, which has a publisher already: the domains want it before there are handlers.
pub fn declaration() -> Program {
    Program::new("remote", REMOTE, 1).codec(Codec::Xdr).event(events::LIFECYCLE)
}

/// The whole program.
pub fn program(declaration: Program, hypervisor: Arc<Hypervisor>, registrations: Arc<Registrations>) -> Program {
    let remote = move || Remote { hypervisor: hypervisor.clone(), registrations: registrations.clone() };
    declaration
        .handler(remote)
        // What every connection begins and ends with.
        .procedure::<AuthList>(66, "auth_list")
        .priority()
        .procedure::<Open>(1, "connect_open")
        .priority()
        .procedure::<Close>(2, "connect_close")
        .priority()
        .procedure::<SupportsFeature>(60, "connect_supports_feature")
        .priority()
        .procedure::<RegisterCloseCallback>(360, "connect_register_close_callback")
        .priority()
        .procedure::<UnregisterCloseCallback>(361, "connect_unregister_close_callback")
        .priority()
        // What there is to know of the service and its host.
        .procedure::<GetType>(3, "connect_get_type")
        .priority()
        .procedure::<GetVersion>(4, "connect_get_version")
        .priority()
        .procedure::<GetLibVersion>(157, "connect_get_lib_version")
        .priority()
        .procedure::<GetHostname>(59, "connect_get_hostname")
        .priority()
        .procedure::<GetUri>(110, "connect_get_uri")
        .priority()
        .procedure::<GetCapabilities>(7, "connect_get_capabilities")
        .procedure::<NodeGetInfo>(6, "node_get_info")
        .priority()
        // Look-ups: answered from the inventory.
        .procedure::<ListAllDomains>(273, "connect_list_all_domains")
        .priority()
        .procedure::<LookupById>(22, "domain_lookup_by_id")
        .priority()
        .procedure::<LookupByName>(23, "domain_lookup_by_name")
        .priority()
        .procedure::<LookupByUuid>(24, "domain_lookup_by_uuid")
        .priority()
        .procedure::<GetState>(212, "domain_get_state")
        .priority()
        .procedure::<GetOsType>(19, "domain_get_os_type")
        .priority()
        .procedure::<IsActive>(150, "domain_is_active")
        .priority()
        .procedure::<IsPersistent>(151, "domain_is_persistent")
        .priority()
        .procedure::<GetAutostart>(15, "domain_get_autostart")
        .priority()
        .procedure::<SnapshotNum>(187, "domain_snapshot_num")
        .priority()
        .procedure::<HasManagedSaveImage>(183, "domain_has_managed_save_image")
        // What the domain itself is asked.
        .procedure::<GetInfo>(16, "domain_get_info")
        .procedure::<GetXmlDesc>(14, "domain_get_xml_desc")
        // What is done to domains.
        .procedure::<Create>(9, "domain_create")
        .procedure::<CreateWithFlags>(196, "domain_create_with_flags")
        .procedure::<Suspend>(34, "domain_suspend")
        .procedure::<Resume>(28, "domain_resume")
        .procedure::<Reboot>(27, "domain_reboot")
        .procedure::<Shutdown>(33, "domain_shutdown")
        .procedure::<ShutdownFlags>(258, "domain_shutdown_flags")
        .procedure::<Destroy>(12, "domain_destroy")
        .priority()
        .procedure::<DestroyFlags>(234, "domain_destroy_flags")
        .priority()
        .procedure::<SetAutostart>(29, "domain_set_autostart")
        .priority()
        .procedure::<CreateXml>(10, "domain_create_xml")
        .procedure::<DefineXml>(11, "domain_define_xml")
        .priority()
        .procedure::<DefineXmlFlags>(350, "domain_define_xml_flags")
        .priority()
        .procedure::<Undefine>(35, "domain_undefine")
        .priority()
        .procedure::<UndefineFlags>(231, "domain_undefine_flags")
        .priority()
        // Events; the event itself is number 318.
        .procedure::<events::Register>(316, "connect_domain_event_callback_register_any")
        .priority()
        .procedure::<events::Deregister>(317, "connect_domain_event_callback_deregister_any")
        .priority()
        .into()
}

/// Declares the arguments of a procedure, and what [`Remote`] answers them with:
///
/// ```ignore
/// procedure!(LookupById { id: i32 } -> DomainRef: |remote, call| …);
/// ```
///
/// stands for
///
/// ```ignore
/// #[derive(Deserialize, Message)]
/// #[rtype(result = "Result<DomainRef, Fault>")]
/// pub struct LookupById { id: i32 }
///
/// impl Handler<Call<LookupById>> for Remote {
///     type Result = Result<DomainRef, Fault>;
///     fn handle(&mut self, call: Call<LookupById>, _: &mut Self::Context) -> Self::Result { … }
/// }
/// ```
///
/// Arguments are encoded as the fields in this order.
macro_rules! procedure {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* } -> $result:ty: |$remote:ident, $call:ident| $body:expr) => {
        $(#[$doc])*
        #[derive(serde::Deserialize)]
        pub struct $name { $($field: $type),* }

        impl actix::Message for $name {
            type Result = Result<$result, Fault>;
        }

        impl actix::Handler<postroom::Call<$name>> for Remote {
            type Result = Result<$result, Fault>;

            fn handle(&mut self, $call: postroom::Call<$name>, _: &mut Self::Context) -> Self::Result {
                let $remote = self;
                $body
            }
        }
    };
}
use procedure;
