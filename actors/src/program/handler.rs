//! From a typed handler to something the pool can run, and back.
//!
//! [`run`] and [`run_async`] wrap one `Handler<Call<M>>` into a function that takes the bytes of the arguments and
//! writes a reply packet behind what its buffer holds: decode, handle, encode, in the codec of its program
//! ([`Form`](crate::form::Form)). A [`Group`] is a handler actor with all its functions; it seats a fresh instance at a
//! desk. Nothing here knows queues, sockets or workers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use actix::dev::MessageResponse;
use actix::{Actor, AsyncContext, Context, Handler, Message, ResponseFuture};
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use serde::de::DeserializeOwned;

use crate::call::{self, Call};
use crate::desk::{Desk, Resident, Seat};
use crate::job::Content;
use crate::program::Outcome;
use crate::stage::{Share, View};
use crate::stats::outcome::Verdict;

/// What a function needs of a call beside the handler.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    /// Kept whole until the call is answered: should it panic, it is known again by its arguments.
    pub(crate) call: &'a Content,
    pub(crate) hubs: &'a Arc<Share>,
    pub(crate) max_packet: u32,
}

impl Request<'_> {
    /// What the handler gets beside the arguments. It is built where it is used, because it is big.
    fn context(&self) -> call::Context {
        let Content { ticket, peer, deadline, .. } = self.call;
        let from = call::From::Client(View::new(self.hubs, ticket));
        call::Context {
            peer: *peer,
            serial: ticket.serial,
            trace: self.call.trace().cloned(),
            deadline: *deadline,
            from,
        }
    }
}

type SyncRun<A> = dyn Fn(&mut A, &mut Context<A>, Request<'_>, &mut Vec<u8>) -> Verdict + Send + Sync;
type AsyncRun<A> = dyn Fn(&mut A, &mut Context<A>, Request<'_>) -> AsyncReply + Send + Sync;

/// How a call ended, and the packet that says so.
pub(crate) type Answer = (Verdict, Vec<u8>);

/// What an async handler leaves: a packet at once (its arguments did not decode), or a future of one.
pub(crate) enum AsyncReply {
    Ready(Answer),
    Later(LocalBoxFuture<'static, Answer>),
}

/// One procedure of a handler actor of type `A`.
pub(crate) enum Run<A: Actor<Context = Context<A>>> {
    Sync(Box<SyncRun<A>>),
    Async(Box<AsyncRun<A>>),
}

/// Wraps a handler that returns its result.
pub(crate) fn run<A, M>() -> Run<A>
where
    M: Message + DeserializeOwned + 'static,
    M::Result: Outcome + MessageResponse<A, Call<M>>,
    A: Actor<Context = Context<A>> + Handler<Call<M>, Result = <M as Message>::Result>,
{
    Run::Sync(Box::new(|actor, ctx, request, out| {
        let Content { ticket, payload, .. } = request.call;
        match ticket.form.decode::<M>(payload) {
            Ok(args) => {
                let outcome = actor.handle(Call::new(args, request.context()), ctx);
                ticket.form.answer(&ticket.header(), outcome.into_result(), request.max_packet, out)
            }
            Err(error) => ticket.form.answer_error(&ticket.header(), &error, request.max_packet, out),
        }
    }))
}

/// Wraps a handler that returns a future of its result.
///
/// The future is taken out of actix's `ResponseFuture` here, because one that actix spawned could never be dropped.
pub(crate) fn run_async<A, M>() -> Run<A>
where
    M: Message + DeserializeOwned + 'static,
    M::Result: Outcome,
    A: Actor<Context = Context<A>> + Handler<Call<M>, Result = ResponseFuture<<M as Message>::Result>>,
{
    Run::Async(Box::new(|actor, ctx, request| {
        let Content { ticket, payload, .. } = request.call;
        let (form, header, max_packet) = (ticket.form, ticket.header(), request.max_packet);
        match form.decode::<M>(payload) {
            Ok(args) => {
                let future = actor.handle(Call::new(args, request.context()), ctx);
                AsyncReply::Later(
                    async move {
                        let outcome = future.await.into_result();
                        let mut out = Vec::new();
                        (form.answer(&header, outcome, max_packet, &mut out), out)
                    }
                    .boxed_local(),
                )
            }
            Err(error) => {
                let mut out = Vec::new();
                AsyncReply::Ready((form.answer_error(&header, &error, max_packet, &mut out), out))
            }
        }
    }))
}

/// A handler actor with all its procedures, its type forgotten.
pub(crate) trait Group: Send + Sync {
    /// Starts a fresh instance on this thread's arbiter, seated at `desk` for the handlers with this index.
    ///
    /// # Errors
    ///
    /// What the factory panicked with.
    fn seat(&self, desk: Rc<Desk>, group: usize) -> Result<Rc<Seat>, String>;
    /// The type of the handler actor, for the log.
    fn type_name(&self) -> &'static str;
}

impl std::fmt::Debug for dyn Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.type_name())
    }
}

pub(crate) struct TypedGroup<A: Actor<Context = Context<A>>> {
    pub(crate) factory: Box<dyn Fn() -> A + Send + Sync>,
    pub(crate) runs: Arc<[Run<A>]>,
}

impl<A: Actor<Context = Context<A>>> Group for TypedGroup<A> {
    fn seat(&self, desk: Rc<Desk>, group: usize) -> Result<Rc<Seat>, String> {
        let seat = Rc::new(Seat::default());
        let resident = Resident::<A>::new(self.runs.clone(), desk, seat.clone(), group);
        catch_unwind(AssertUnwindSafe(|| {
            let mut ctx = Context::new();
            ctx.spawn(resident);
            let actor = (self.factory)();
            seat.take(ctx.into_future(actor));
        }))
        .map_err(|panic| panic_text(&*panic))?;
        Ok(seat)
    }

    fn type_name(&self) -> &'static str {
        std::any::type_name::<A>()
    }
}

/// What a panic said, as far as it is text.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a value that is no text".to_owned()
    }
}
