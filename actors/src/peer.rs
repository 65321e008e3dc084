//! Who is at the other end of a connection.
//!
//! Read once, at accept, by the listener; small and `Copy`, because it travels with every call.

/// The kind of socket a client came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A Unix socket; the kernel vouches for the [`Credentials`].
    Unix,
    /// TCP; nothing is known of the process at the other end.
    Tcp,
    /// A connection inside the process of the service; the credentials are the process's own.
    Local,
}

impl Transport {
    /// `unix`, `tcp` or `local`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unix => "unix",
            Self::Tcp => "tcp",
            Self::Local => "local",
        }
    }
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the kernel says of the process that connected to a Unix socket (`SO_PEERCRED`).
///
/// They are those of the moment it connected: the process may since have changed its user, passed the socket on, or
/// ended, and its pid may have been taken by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Process id; 0 where it is not visible from the service's pid namespace.
    pub pid: i32,
}

/// The identity of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    client_id: u64,
    transport: Transport,
    credentials: Option<Credentials>,
}

impl Peer {
    /// A peer as the listener sees it; also for tests of handlers.
    pub fn new(client_id: u64, transport: Transport, credentials: Option<Credentials>) -> Self {
        Self { client_id, transport, credentials }
    }

    /// The number of this connection: counted from 1, never reused while the service runs. It is also in the log.
    pub fn client_id(&self) -> u64 {
        self.client_id
    }

    /// The kind of socket it came by.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// What the kernel says of the process; `None` over TCP.
    pub fn credentials(&self) -> Option<Credentials> {
        self.credentials
    }

    /// The user id; `None` over TCP.
    pub fn uid(&self) -> Option<u32> {
        self.credentials.map(|credentials| credentials.uid)
    }

    /// The group id; `None` over TCP.
    pub fn gid(&self) -> Option<u32> {
        self.credentials.map(|credentials| credentials.gid)
    }

    /// The process id; `None` over TCP, and where the kernel does not show it.
    pub fn pid(&self) -> Option<i32> {
        self.credentials.map(|credentials| credentials.pid).filter(|&pid| pid != 0)
    }
}
