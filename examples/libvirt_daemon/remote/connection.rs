//! What a connection begins and ends with, and what there is to know of the service and its host.
//!
//! Nothing is kept for a connection: whoever may connect to the socket may do everything, before `connect_open` too.

use super::types::NodeInfo;
use super::{Remote, procedure};
use crate::host;
use crate::model::fault::{Fault, Kind, Origin};

/// `REMOTE_AUTH_NONE`.
const NO_AUTHENTICATION: i32 = 0;

/// `VIR_DRV_FEATURE_PROGRAM_KEEPALIVE`: the client answers pings, and wants to get some.
const KEEPALIVE: i32 = 10;
/// `VIR_DRV_FEATURE_REMOTE_EVENT_CALLBACK`: events are registered for by 316.
const EVENT_CALLBACK: i32 = 14;
/// `VIR_DRV_FEATURE_REMOTE_CLOSE_CALLBACK`: 360 and 361 are there.
const CLOSE_CALLBACK: i32 = 15;

procedure!(
    /// How a client may say who it is: there is nothing to say.
    AuthList {} -> Vec<i32>: |_remote, _call| Ok(vec![NO_AUTHENTICATION])
);

procedure!(
    /// The URI without its transport, and flags by which a client promises to read only. It keeps that promise itself.
    Open { name: Option<String>, flags: u32 } -> (): |_remote, call| {
        log::debug!("a client opens {:?} with flags {:#x}", call.args.name, call.args.flags);
        Ok(())
    }
);

procedure!(
    /// The client closes the connection when this is answered.
    Close {} -> (): |_remote, _call| Ok(())
);

procedure!(
    SupportsFeature { feature: i32 } -> i32: |_remote, call| {
        // The client asks this one because it is ready for pings itself.
        if call.args.feature == KEEPALIVE {
            call.enable_keepalive();
        }
        Ok([KEEPALIVE, EVENT_CALLBACK, CLOSE_CALLBACK].contains(&call.args.feature).into())
    }
);

procedure!(
    /// The client wants to be told (by 362) when the hypervisor closes the connection, which this one never does.
    RegisterCloseCallback {} -> (): |_remote, _call| Ok(())
);

procedure!(UnregisterCloseCallback {} -> (): |_remote, _call| Ok(()));

procedure!(GetType {} -> String: |_remote, _call| Ok(host::TYPE.to_owned()));

procedure!(GetVersion {} -> u64: |_remote, _call| Ok(host::VERSION));

procedure!(
    /// The version of libvirt that this service behaves like.
    GetLibVersion {} -> u64: |_remote, _call| Ok(host::LIBVIRT_VERSION)
);

procedure!(
    GetHostname {} -> String: |_remote, _call| host::name().map_err(|error| {
        Fault::new(Kind::Internal, Origin::Driver, format!("the name of the host cannot be read: {error}"))
    })
);

procedure!(
    /// Asked by clients that were not told a driver.
    GetUri {} -> String: |_remote, _call| Ok(host::URI.to_owned())
);

procedure!(GetCapabilities {} -> String: |_remote, _call| Ok(host::capabilities()));

procedure!(
    NodeGetInfo {} -> NodeInfo: |_remote, _call| {
        let mut model = [0; 32];
        // It ends with a zero, so one less fits.
        for (place, byte) in model[..31].iter_mut().zip(std::env::consts::ARCH.bytes()) {
            *place = byte.cast_signed();
        }
        let host::Node { memory, mhz, nodes, sockets, cores, threads } = host::NODE;
        Ok(NodeInfo { model, memory, cpus: nodes * sockets * cores * threads, mhz, nodes, sockets, cores, threads })
    }
);
