//! What a [`Fault`] is to a client: an error with libvirt's numbers.

use postroom::Error;
use postroom::libvirt::{self, ErrorCode, ErrorDomain};

use crate::model::fault::Fault;

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        libvirt::error(ErrorCode(fault.kind as i32), ErrorDomain(fault.origin as i32), fault.message)
    }
}
