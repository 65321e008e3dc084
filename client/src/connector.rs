//! What decides by the address where a call runs: behind a socket, or in this process.
//!
//! A program makes one, gives it the services that it embeds, and passes it to whoever connects.
//! When a service moves out, only the address changes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::builder::ClientBuilder;
use crate::client::Client;
use crate::connection::Origin;
use crate::error::{ConnectError, ConnectProblem};
use crate::local::LocalService;
use crate::location::{Location, LocationError};

/// The local services that addresses of the form `local:NAME` can mean. Cheap to clone.
#[derive(Clone, Default)]
pub struct Connector {
    local: Arc<BTreeMap<String, Arc<dyn LocalService>>>,
}

impl Connector {
    /// A connector without local services: it knows `unix:` and `tcp:` addresses only.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with one more service, at `local:NAME`. Of two with the same name the later one counts.
    #[must_use]
    pub fn with_local(mut self, name: impl Into<String>, service: Arc<dyn LocalService>) -> Self {
        Arc::make_mut(&mut self.local).insert(name.into(), service);
        self
    }

    /// A client of the service at this address, which behaves as one from [`Client::connect`].
    ///
    /// Cancel safety: dropping the future closes what was opened; nothing remains.
    ///
    /// # Errors
    ///
    /// As [`ClientBuilder::connect`]; for a `local:` name that the connector was not given, with those it has.
    pub async fn connect<A>(&self, address: A) -> Result<Client, ConnectError>
    where
        A: TryInto<Location>,
        A::Error: Into<LocationError>,
    {
        self.builder().connect(address).await
    }

    /// The same for a client that is to behave otherwise.
    pub fn builder(&self) -> ClientBuilder {
        Client::builder().connector(self.clone())
    }

    pub(crate) fn origin(&self, location: Location) -> Result<Origin, ConnectError> {
        match location {
            Location::Remote(address) => Ok(Origin::Remote(address)),
            Location::Local(name) => match self.local.get(&name) {
                Some(service) => Ok(Origin::Local(service.clone())),
                None => {
                    let known = self.local.keys().cloned().collect();
                    Err(ConnectError::new(format!("local:{name}"), ConnectProblem::UnknownLocal(known)))
                }
            },
        }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("local", &self.local.keys()).finish()
    }
}
