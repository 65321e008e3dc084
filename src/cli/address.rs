//! Where the service listens when nobody says where.

use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use postroom_actors::Address;

use crate::service::{Failure, Result};

/// `$POSTROOM_ADDRESS`, or the socket `postroom/postroom.sock` below `$XDG_RUNTIME_DIR`, or below `/run` for root.
pub(super) fn default() -> Result<Address> {
    if let Ok(address) = std::env::var("POSTROOM_ADDRESS") {
        return address.parse().map_err(|error| Failure::new(format!("POSTROOM_ADDRESS: {error}")));
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()).map(PathBuf::from);
    let is_root = rustix::process::geteuid().is_root();
    match runtime.or_else(|| is_root.then(|| PathBuf::from("/run"))) {
        Some(runtime) => Ok(Address::Unix(runtime.join("postroom/postroom.sock"))),
        None => Err(Failure::new("no default address, since XDG_RUNTIME_DIR is not set; give one: --listen unix:PATH")),
    }
}

/// Makes the folder of the default socket, for this user only, if the service is to listen there.
pub(super) fn prepare_default(listen: &[Address]) -> Result<()> {
    // Where there is no default, none is listened at.
    if let Ok(default) = default()
        && listen.contains(&default)
        && let Address::Unix(path) = &default
        && let Some(folder) = path.parent()
    {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| Failure::new(format!("cannot make the folder {}: {error}", folder.display())))?;
    }
    Ok(())
}
