//! The configuration of a service.
//!
//! [`Config`] is plain data, passed by value; nothing here reads files or the environment. Reading it from the text of
//! a TOML file is in [`mod@file`], with the feature `cli`; the one thing that asks the system is whether a group exists.

#[cfg(feature = "cli")]
pub mod file;
#[cfg(feature = "cli")]
mod units;

use postroom_actors::{Address, Limits};

/// The configuration of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where it listens. The default is nowhere: the binary fills in its default socket.
    pub listen: Vec<Address>,
    /// The permissions of Unix sockets that are files. Default: `0o700`, only the user that runs the service.
    pub unix_sock_perms: u32,
    /// The group that such sockets belong to, by name or number. Default: that of the process.
    pub unix_sock_group: Option<String>,
    /// Whether the program `echo` is served. Default: yes.
    pub demo: bool,
    /// All limits.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            unix_sock_perms: 0o700,
            unix_sock_group: None,
            demo: true,
            limits: Limits::default(),
        }
    }
}
