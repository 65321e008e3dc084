//! Where a client's service is, and a new stream to it each time it connects.

use std::fmt;
use std::io;
use std::sync::Arc;

use postroom_protocol::Address;
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

use super::stream::Stream;
use crate::local::LocalService;

#[derive(Clone)]
pub(crate) enum Origin {
    Remote(Address),
    Local(Arc<dyn LocalService>),
}

impl Origin {
    /// A new stream to the service.
    pub(super) async fn open(&self) -> io::Result<Stream> {
        match self {
            Self::Local(service) => service.open().map(Stream::Local),
            #[cfg(unix)]
            Self::Remote(Address::Unix(path)) => UnixStream::connect(path).await.map(Stream::Unix),
            #[cfg(unix)]
            Self::Remote(Address::UnixAbstract(name)) => open_abstract(name).map(Stream::Unix),
            Self::Remote(Address::Tcp { host, port }) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                // Packets are written whole and together already: waiting for more would only cost time.
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            #[cfg(not(unix))]
            Self::Remote(_) => Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no Unix sockets")),
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn open_abstract(name: &str) -> io::Result<UnixStream> {
    #[cfg(target_os = "android")]
    use std::os::android::net::SocketAddrExt;
    #[cfg(target_os = "linux")]
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixStream as StdStream};

    // Connecting a Unix socket waits only while the listener's queue is full, and tokio's own connect
    // gives up then too; that takes no abstract addresses of every kind, this does.
    let stream = StdStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
fn open_abstract(_: &str) -> io::Result<UnixStream> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "only Linux has abstract Unix sockets"))
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remote(address) => f.debug_tuple("Remote").field(address).finish(),
            Self::Local(_) => f.write_str("Local"),
        }
    }
}
