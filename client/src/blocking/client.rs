//! The handle of a blocking client, and the thread behind it.

use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::request::Request;
use super::subscription::Subscribe;
use super::wait::wait;
use crate::builder::{ClientBuilder, Prepared};
use crate::directory::ServiceInfo;
use crate::error::{CallError, CloseReason, ConnectError, ConnectProblem};
use crate::location::{Location, LocationError};
use crate::procedure::Target;

/// A client of one service, for programs without async. See the [module](super).
///
/// Clones share the connection and its thread. When the last one is dropped, the connection is closed and the thread
/// joined. Calls block the thread that makes them: within an async runtime, use [`crate::Client`].
#[derive(Clone, Debug)]
pub struct Client {
    // In this order: the thread ends when the handle is gone, and only then can it be joined.
    client: crate::Client,
    _thread: Arc<Joined>,
}

/// A thread that is joined when this is dropped.
#[derive(Debug)]
struct Joined(Option<JoinHandle<()>>);

impl Drop for Joined {
    fn drop(&mut self) {
        let Some(thread) = self.0.take() else {
            return;
        };
        // A waker of the user's may hold a client and be dropped by the very thread: that cannot join itself.
        if thread.thread().id() != thread::current().id() && thread.join().is_err() {
            log::error!("the thread of a blocking client has panicked");
        }
    }
}

impl Client {
    /// Connects to a service at `unix:PATH`, `unix:@NAME` or `tcp:HOST:PORT`, with everything as it is by default.
    /// For more, see [`ClientBuilder::connect_blocking`].
    ///
    /// # Errors
    ///
    /// When the address is none, when nothing or something else listens there, when the service refuses,
    /// or when no thread can be started.
    pub fn connect<A>(address: A) -> Result<Self, ConnectError>
    where
        A: TryInto<Location>,
        A::Error: Into<LocationError>,
    {
        ClientBuilder::default().connect_blocking(address)
    }

    pub(crate) fn start(prepared: Prepared) -> Result<Self, ConnectError> {
        let peer = prepared.peer.clone();
        let failed = |error| ConnectError::new(peer.clone(), ConnectProblem::NoThread(error));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (sender, receiver) = mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name("postroom-client".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    match prepared.connect().await {
                        Err(error) => drop(sender.send(Err(error))),
                        Ok((client, driver)) => {
                            drop(sender.send(Ok(client)));
                            driver.run().await;
                        }
                    }
                });
            })
            .map_err(failed)?;
        let thread = Arc::new(Joined(Some(thread)));
        match receiver.recv() {
            Ok(Ok(client)) => Ok(Self { client, _thread: thread }),
            Ok(Err(error)) => Err(error),
            // The thread has panicked, and has said so itself.
            Err(_) => Err(failed(std::io::Error::other("it panicked while it connected"))),
        }
    }

    /// Makes a call and waits for its result, as [`crate::Client::call`] does.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn call<'a, R: DeserializeOwned>(
        &'a self,
        target: impl Into<Target<'a>>,
        args: &(impl Serialize + ?Sized),
    ) -> Result<R, CallError> {
        self.request(target).args(args).send()
    }

    /// A call about which more is to be said.
    pub fn request<'a>(&'a self, target: impl Into<Target<'a>>) -> Request<'a> {
        Request::new(self.client.request(target))
    }

    /// A subscription to an event of the service, see [`crate::Client::subscribe`].
    pub fn subscribe<T: DeserializeOwned>(&self, name: impl Into<String>) -> Subscribe<'_, T> {
        Subscribe::new(self.client.subscribe(name), self.clone())
    }

    /// What the service said of itself when the present connection was made.
    #[must_use]
    pub fn service(&self) -> Arc<ServiceInfo> {
        self.client.service()
    }

    /// The address of the service.
    #[must_use]
    pub fn peer(&self) -> &str {
        self.client.peer()
    }

    /// Why the client has ended, if it has.
    #[must_use]
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.client.close_reason()
    }

    /// Closes the client for all its clones: calls under way still get their replies, others fail.
    /// Waits until the connection has ended.
    pub fn close(&self) {
        wait(self.client.close(), None);
    }
}
