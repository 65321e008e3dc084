//! Where the service listens when nobody says where.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use postroom_actors::Address;

use crate::config::Config;
use crate::service::{Failure, Result};

/// `$POSTROOM_ADDRESS`, or the socket `postroom/postroom.sock` below `$XDG_RUNTIME_DIR`, or below `/run` for root.
///
/// # Errors
///
/// When there is none; `instead` is what gives one.
pub(super) fn default(instead: &str) -> Result<Address> {
    // Empty is how a script unsets it.
    if let Ok(address) = std::env::var("POSTROOM_ADDRESS")
        && !address.is_empty()
    {
        return address.parse().map_err(|error| Failure::new(format!("POSTROOM_ADDRESS: {error}")));
    }
    match own_socket() {
        Some(path) => Ok(Address::Unix(path)),
        None => {
            let text = format!("no default address, since XDG_RUNTIME_DIR is not set; give one: {instead}");
            Err(Failure::new(text))
        }
    }
}

/// The default socket in a folder that no other program has.
fn own_socket() -> Option<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()).map(PathBuf::from);
    let is_root = rustix::process::geteuid().is_root();
    let runtime = runtime.or_else(|| is_root.then(|| PathBuf::from("/run")))?;
    Some(runtime.join("postroom/postroom.sock"))
}

/// Makes the folder of the default socket, if the service is to listen there: for this user only, unless the mode of
/// the socket lets others in. Then the folder lets them through, and who may connect is the socket's affair.
pub(super) fn prepare_default(config: &Config) -> Result<()> {
    // Where there is no default, none is listened at.
    if let Ok(default) = default("--listen unix:PATH")
        && config.listen.contains(&default)
        && let Address::Unix(path) = &default
        && let Some(folder) = path.parent()
    {
        let lets_in = config.unix_sock_perms & 0o077 != 0;
        let failed = |error| Failure::new(format!("cannot make the folder {}: {error}", folder.display()));
        let mode = if lets_in { 0o755 } else { 0o700 };
        std::fs::DirBuilder::new().recursive(true).mode(mode).create(folder).map_err(failed)?;
        // POSTROOM_ADDRESS may name a folder that is more than this service's: that is never opened.
        if lets_in && own_socket().is_some_and(|own| own == *path) {
            open(folder)
                .map_err(|error| Failure::new(format!("cannot let others into {}: {error}", folder.display())))?;
        }
    }
    Ok(())
}

/// Lets others through a folder that was made for this user only: by the umask, or before they were let in.
fn open(folder: &Path) -> std::io::Result<()> {
    let mut permissions = std::fs::metadata(folder)?.permissions();
    // A folder that lets some through was made so by somebody who knows whom.
    if permissions.mode() & 0o077 == 0 {
        permissions.set_mode(0o755);
        std::fs::set_permissions(folder, permissions)?;
    }
    Ok(())
}
