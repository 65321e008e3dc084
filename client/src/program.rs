//! One program of a service, for those who call more than one of its procedures.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::call::Call;
use crate::client::Client;
use crate::procedure::Procedure;
use crate::request::Request;

/// A handle on one version of one program. Cheap to clone; it keeps the client's connection open.
#[derive(Clone, Debug)]
pub struct Program {
    client: Client,
    name: Arc<str>,
    number: u32,
    version: u32,
}

impl Program {
    pub(crate) fn new(client: Client, name: Arc<str>, number: u32, version: u32) -> Self {
        Self { client, name, number, version }
    }

    /// Calls the procedure with this number, as [`Client::call`] does.
    ///
    /// Cancel safety: see [`Call`].
    ///
    /// # Errors
    ///
    /// See [`CallError`](crate::CallError).
    pub fn call<R: DeserializeOwned>(&self, procedure: i32, args: &(impl Serialize + ?Sized)) -> Call<'_, R> {
        self.request(procedure).args(args).send()
    }

    /// A call of the procedure with this number, about which more is to be said.
    pub fn request(&self, procedure: i32) -> Request<'_> {
        self.client.request(self.procedure(procedure))
    }

    /// The procedure with this number.
    #[must_use]
    pub fn procedure(&self, number: i32) -> Procedure {
        Procedure::new(self.number, self.version, number)
    }

    /// The name that the program was given here.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The client that this is a handle of.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }
}
