//! A client, before it connects.

use std::sync::Arc;
use std::time::Duration;

use postroom_protocol::HEADER_LEN;

use crate::client::Client;
use crate::connection::{Driver, Origin, connect};
use crate::connector::Connector;
use crate::error::{ConnectError, ConnectProblem};
use crate::exchange::Link;
use crate::location::{Location, LocationError};
use crate::settings::{Keepalive, Reconnect, Settings};

/// How a client is to behave. Without anything set it is what [`Client::connect`] makes.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ClientBuilder {
    settings: Settings,
    connector: Connector,
}

impl ClientBuilder {
    /// Under which name and version the client introduces itself to the service, which shows them in its log.
    /// By default, those of this library.
    pub fn name(mut self, name: impl Into<String>, version: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self.settings.version = version.into();
        self
    }

    /// The deadline of calls that set none. By default there is none: a call waits for as long as it is awaited.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.settings.deadline = Some(deadline);
        self
    }

    /// How long one attempt to connect may take, the greeting included. By default 10 seconds.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.settings.connect_timeout = timeout;
        self
    }

    /// When the service is asked if it is still there, or never. By default as [`Keepalive::default`] has it.
    ///
    /// An interval under one millisecond counts as one.
    pub fn keepalive(mut self, keepalive: impl Into<Option<Keepalive>>) -> Self {
        self.settings.keepalive = keepalive
            .into()
            .map(|Keepalive { interval, count }| Keepalive { interval: interval.max(Duration::from_millis(1)), count });
        self
    }

    /// What happens when the connection is lost. By default the client has ended then.
    pub fn reconnect(mut self, reconnect: impl Into<Option<Reconnect>>) -> Self {
        self.settings.reconnect = reconnect.into();
        self
    }

    /// How many calls may be unanswered at the same time; more of them wait here, first come first served.
    /// By default, and at most, as many as the service takes from one client. 0 counts as 1.
    pub fn max_in_flight(mut self, max_in_flight: u32) -> Self {
        self.settings.max_in_flight = max_in_flight.max(1);
        self
    }

    /// The greatest reply, in bytes and with its header, that the client takes; the call of a greater one fails with
    /// `too_large`. By default 32 MiB and 4 bytes, as services have it.
    pub fn max_reply(mut self, max_reply: u32) -> Self {
        self.settings.max_reply = max_reply.max(HEADER_LEN as u32);
        self
    }

    /// The local services that `local:NAME` can mean. By default there are none.
    pub fn connector(mut self, connector: Connector) -> Self {
        self.connector = connector;
        self
    }

    /// Connects, and learns who the service is and what it takes.
    ///
    /// The connection is a task of the tokio runtime that this is called in.
    ///
    /// Cancel safety: dropping the future closes what was opened; nothing remains.
    ///
    /// # Errors
    ///
    /// When the address is none, when nothing or something else listens there, when the service refuses the client,
    /// or when there is no tokio runtime. With [`Reconnect::wait_for_service`], attempts that may go better next
    /// time are repeated instead.
    ///
    /// # Panics
    ///
    /// If the runtime was built without I/O or without time.
    pub async fn connect<A>(self, address: A) -> Result<Client, ConnectError>
    where
        A: TryInto<Location>,
        A::Error: Into<LocationError>,
    {
        let (client, driver) = self.prepare(address)?.connect().await?;
        tokio::spawn(driver.run());
        Ok(client)
    }

    /// The same for a program without async: see [`blocking::Client`](crate::blocking::Client).
    ///
    /// # Errors
    ///
    /// As [`ClientBuilder::connect`], and when no thread can be started.
    pub fn connect_blocking<A>(self, address: A) -> Result<crate::blocking::Client, ConnectError>
    where
        A: TryInto<Location>,
        A::Error: Into<LocationError>,
    {
        crate::blocking::Client::start(self.prepare(address)?)
    }

    fn prepare<A>(self, address: A) -> Result<Prepared, ConnectError>
    where
        A: TryInto<Location>,
        A::Error: Into<LocationError>,
    {
        let location = address
            .try_into()
            .map_err(|error| ConnectError::new("an address", ConnectProblem::Location(error.into())))?;
        let peer: Arc<str> = location.to_string().into();
        let origin = self.connector.origin(location)?;
        Ok(Prepared { peer, origin, settings: Arc::new(self.settings) })
    }
}

/// A client that knows where it is to connect.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) peer: Arc<str>,
    origin: Origin,
    settings: Arc<Settings>,
}

impl Prepared {
    /// The client, and the task that it needs to be run.
    pub(crate) async fn connect(self) -> Result<(Client, Driver), ConnectError> {
        let Self { peer, origin, settings } = self;
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(ConnectError::new(peer, ConnectProblem::NoRuntime));
        }
        let deadline = settings.deadline;
        let (link, driver): (Arc<Link>, Driver) = connect(peer.clone(), origin, settings).await?;
        Ok((Client::new(link, peer, deadline), driver))
    }
}
