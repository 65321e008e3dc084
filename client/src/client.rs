//! The handle on a client's connection.
//!
//! Programs clone it and make calls with it; it owns nothing but its share of the link to the connection's task.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::builder::ClientBuilder;
use crate::call::Call;
use crate::directory::{DESCRIBE, Description, ServiceInfo};
use crate::error::{CallError, CloseCause, CloseReason, ConnectError};
use crate::exchange::{Closing, Flight, Link, Outgoing};
use crate::location::{Location, LocationError};
use crate::names::Names;
use crate::procedure::{Procedure, Target};
use crate::program::Program;
use crate::request::Request;
use crate::subscription::Subscribe;

/// A client of one service, over one connection at a time.
///
/// Clones share the connection, and so may any number of tasks and threads: their calls are under way together, and
/// those made at the same time leave in one write. When the last clone is dropped, the connection is closed.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    link: Arc<Link>,
    peer: Arc<str>,
    deadline: Option<Duration>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.link.close(Closing::AtOnce);
    }
}

impl Client {
    pub(crate) fn new(link: Arc<Link>, peer: Arc<str>, deadline: Option<Duration>) -> Self {
        Self { shared: Arc::new(Shared { link, peer, deadline }) }
    }

    /// Connects to a service at `unix:PATH`, `unix:@NAME` or `tcp:HOST:PORT`, with everything as it is by default.
    ///
    /// Cancel safety and errors are those of [`ClientBuilder::connect`].
    ///
    /// # Errors
    ///
    /// When the address is none, when nothing or something else listens there, or when the service refuses.
    pub async fn connect<A>(address: A) -> Result<Self, ConnectError>
    where
        A: TryInto<Location>,
        A::Error: Into<LocationError>,
    {
        Self::builder().connect(address).await
    }

    /// A client that is to behave otherwise than by default.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// A call, to be awaited for its result. `target` is a [`Procedure`] or a name such as `"echo.echo"`.
    ///
    /// If the service has as many calls of this client as it takes, the call waits here for its turn.
    ///
    /// The arguments are encoded at once, and no longer borrowed then.
    ///
    /// Cancel safety: see [`Call`].
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    #[inline]
    pub fn call<'a, R: DeserializeOwned>(
        &'a self,
        target: impl Into<Target<'a>>,
        args: &(impl Serialize + ?Sized),
    ) -> Call<'a, R> {
        self.request(target).args(args).send()
    }

    /// A call about which more is to be said: its deadline, its key, that it may be repeated, or bytes as they are.
    pub fn request<'a>(&'a self, target: impl Into<Target<'a>>) -> Request<'a> {
        Request::new(self, target.into())
    }

    /// A subscription to an event, to be awaited for its stream. `name` is that of the program, in its highest version,
    /// and of the event, such as `"directory.clients"`, or `"directory/1.clients"`.
    ///
    /// Cancel safety: see [`Subscribe::open`].
    ///
    /// # Errors
    ///
    /// As [`Subscribe::open`].
    pub fn subscribe<T: DeserializeOwned>(&self, name: impl Into<String>) -> Subscribe<'_, T> {
        Subscribe::new(self, name.into())
    }

    /// A handle on one program of the service, for calls by the number of the procedure. Nothing is looked up.
    ///
    /// `name` is for people: it stands in what the handle shows of itself.
    #[must_use]
    pub fn program(&self, name: impl Into<Arc<str>>, number: u32, version: u32) -> Program {
        Program::new(self.clone(), name.into(), number, version)
    }

    /// The number behind a name such as `"echo.echo"` or `"echo/1.echo"`.
    ///
    /// The service's directory is asked once for each connection.
    ///
    /// Cancel safety: nothing is lost.
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`] with what comes nearest, if there is no such name; else those of the call to the
    /// directory.
    pub async fn resolve(&self, name: &str) -> Result<Procedure, CallError> {
        let names = || self.shared.link.names.lock().unwrap_or_else(PoisonError::into_inner);
        let cached = names().clone();
        let known = match cached {
            Some(known) => known,
            None => {
                let outgoing = Outgoing { idempotent: true, ..Outgoing::new(DESCRIBE, Vec::new()) };
                let description: Description = Flight::new(&self.shared.link, outgoing).await?.decode()?;
                let known = Arc::new(Names::new(description));
                *names() = Some(known.clone());
                known
            }
        };
        known.resolve(name).map_err(CallError::Refused)
    }

    /// What the service said of itself when the present connection was made: its name, its limits.
    #[must_use]
    pub fn service(&self) -> Arc<ServiceInfo> {
        self.shared.link.lock().service.clone()
    }

    /// The address of the service.
    #[must_use]
    pub fn peer(&self) -> &str {
        &self.shared.peer
    }

    /// Waits until the client has ended, and says why. With [`Reconnect`](crate::Reconnect) a lost connection is not
    /// the end.
    ///
    /// Cancel safety: nothing is lost.
    pub async fn closed(&self) -> CloseReason {
        let mut ended = self.shared.link.ended.subscribe();
        let reason = match ended.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone(),
            Err(_) => None,
        };
        // The sender lives in the link, which this handle holds; were it gone, so would be the runtime.
        reason.unwrap_or_else(|| CloseReason::new(self.shared.peer.clone(), CloseCause::RuntimeGone))
    }

    /// Why the client has ended, if it has.
    #[must_use]
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.shared.link.ended.borrow().clone()
    }

    /// Closes the client for all its handles: calls under way still get their replies, calls that wait for their turn
    /// and new ones fail. Waits until the connection has ended.
    ///
    /// Cancel safety: the client goes on closing.
    pub async fn close(&self) {
        self.shared.link.close(Closing::Gently);
        self.closed().await;
    }

    pub(crate) fn link(&self) -> &Link {
        &self.shared.link
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.shared.deadline
    }
}
