//! Where a service listens and a client connects, as people write it.
//!
//! Configuration, command line and environment hold addresses as text.
//! Nothing is resolved, opened or created here.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A place to listen at or connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// `unix:PATH`: a Unix socket in the file system.
    Unix(PathBuf),
    /// `unix:@NAME`: a Unix socket in Linux's abstract namespace.
    UnixAbstract(String),
    /// `tcp:HOST:PORT`, with an IPv6 address in brackets. To listen at port 0 is to let the system choose.
    Tcp {
        /// A name or an IP address, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        parse(text).map_err(|problem| AddressError { address: text.to_owned(), problem })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A relative path that starts with `@` would read as an abstract name.
            Self::Unix(path) if path.as_os_str().as_encoded_bytes().starts_with(b"@") => {
                write!(f, "unix:./{}", path.display())
            }
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::UnixAbstract(name) => write!(f, "unix:@{name}"),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
        }
    }
}

/// A text that is no address; its display names the text, what is wrong, and what forms there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError {
    address: String,
    problem: &'static str,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, problem } = self;
        write!(
            f,
            "address {address:?}: {problem}; the forms that this version knows are \
             unix:PATH, unix:@NAME and tcp:HOST:PORT"
        )
    }
}

impl std::error::Error for AddressError {}

fn parse(text: &str) -> Result<Address, &'static str> {
    let Some((scheme, rest)) = text.split_once(':') else {
        return Err("it does not start with a form and a colon");
    };
    match scheme {
        "unix" => parse_unix(rest),
        "tcp" => parse_tcp(rest),
        "local" => Err("local addresses are not known here"),
        "tls" => Err("TLS is not known here"),
        "vsock" => Err("vsock is not known here"),
        _ => Err("its form is unknown"),
    }
}

fn parse_unix(rest: &str) -> Result<Address, &'static str> {
    if rest.contains('\0') {
        return Err("the path has a zero byte");
    }
    match rest.strip_prefix('@') {
        Some("") => Err("the abstract name is empty"),
        Some(name) => Ok(Address::UnixAbstract(name.to_owned())),
        None if rest.is_empty() => Err("the path is empty"),
        None => Ok(Address::Unix(rest.into())),
    }
}

fn parse_tcp(rest: &str) -> Result<Address, &'static str> {
    let Some((host, port)) = rest.rsplit_once(':') else {
        return Err("the port is missing");
    };
    let host = match host.strip_prefix('[') {
        Some(host) => match host.strip_suffix(']') {
            Some(host) if host.contains(':') => host,
            Some(_) => return Err("brackets are for IPv6 addresses"),
            None => return Err("the closing bracket is missing"),
        },
        None if host.contains(':') => return Err("an IPv6 address stands in brackets"),
        None => host,
    };
    if host.is_empty() {
        return Err("the host is empty");
    }
    // A sign is accepted by the number's own parser, but not here.
    let port = match port.bytes().all(|byte| byte.is_ascii_digit()) {
        true => port.parse().ok(),
        false => None,
    };
    match port {
        Some(port) => Ok(Address::Tcp { host: host.to_owned(), port }),
        None => Err("the port is not a number from 0 to 65535"),
    }
}
