//! The hook by which a service in this process is called as if it were remote.
//!
//! A service implements it; a connector holds it and opens it once for each connection.
//! Both ends speak the wire over a stream in memory, so that limits, errors and order are those of a socket.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

/// A stream of bytes in both directions, such as `tokio::io::DuplexStream`.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A service in this process that accepts connections in memory.
pub trait LocalService: Send + Sync {
    /// A new connection: the client's end of a stream whose other end the service serves from now on.
    ///
    /// It is called within the tokio runtime of the client, once for each connection, and must not block.
    ///
    /// # Errors
    ///
    /// When the service takes no connections. Of kind [`io::ErrorKind::ConnectionRefused`] it means that
    /// the service is not running, as with a socket.
    fn open(&self) -> io::Result<Box<dyn Duplex>>;
}
