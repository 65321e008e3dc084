//! What a handler gets: [`Call`], the arguments and who called.
//!
//! Also which call this thread runs right now ([`current`]), so that a log line written inside a handler can carry
//! the client and the serial without the handler saying so.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use actix::Message;
use postroom_protocol::Error;

use crate::event_loop::EventLoop;
use crate::events::{Event, Publisher, SubscribeOptions, Subscription};
use crate::peer::Peer;
use crate::stage::View;
use crate::time::Instant;

/// One call, as its handler sees it.
///
/// It is an actix message: a handler actor implements `Handler<Call<Args>>`, and `Args` says by its own `Message`
/// derive what the result is.
#[derive(Debug)]
pub struct Call<M> {
    /// The decoded arguments.
    pub args: M,
    context: Context,
}

/// What a call carries beside its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) peer: Peer,
    pub(crate) serial: u32,
    pub(crate) trace: Option<Arc<str>>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) from: From,
}

/// Where a call came from.
#[derive(Clone, Debug)]
pub(crate) enum From {
    /// From a client of a service: whether it is still wanted, and what there is for it.
    Client(View),
    /// From a test, which may want to know what is published.
    Test(Publisher),
}

impl Context {
    fn view(&self) -> Option<&View> {
        match &self.from {
            From::Client(view) => Some(view),
            From::Test(_) => None,
        }
    }
}

impl<M: Message> Message for Call<M> {
    type Result = M::Result;
}

impl<M> Call<M> {
    pub(crate) fn new(args: M, context: Context) -> Self {
        Self { args, context }
    }

    /// A call as a test makes it; see the module `testing` of the crate `postroom`.
    pub fn for_test(args: M, peer: Peer, serial: u32) -> Self {
        Self::for_test_with(args, peer, serial, Publisher::for_test())
    }

    /// The same with the publisher of a test, which tells it what the handler publishes.
    pub fn for_test_with(args: M, peer: Peer, serial: u32, publisher: Publisher) -> Self {
        Self::new(args, Context { peer, serial, trace: None, deadline: None, from: From::Test(publisher) })
    }

    /// Who called: transport, user, group, process, and the number of the connection.
    pub fn peer(&self) -> &Peer {
        &self.context.peer
    }

    /// The number of the connection; the same as `peer().client_id()`.
    pub fn client_id(&self) -> u64 {
        self.context.peer.client_id()
    }

    /// The serial that the client chose for this call. Not unique: it is the client's affair.
    pub fn serial(&self) -> u32 {
        self.context.serial
    }

    /// The trace context (W3C `traceparent`) that came with the call, if one did. It is what the client sent: check
    /// it before trusting its form.
    pub fn trace(&self) -> Option<&str> {
        self.context.trace.as_deref()
    }

    /// Until when the result is of use to the caller: the deadline that came with the call, or else the connection's
    /// default. The caller is told `deadline_exceeded` then, whatever the handler does. Two answers for the same call may
    /// lie some microseconds apart.
    pub fn deadline(&self) -> Option<std::time::Instant> {
        self.context.deadline.map(Instant::to_std)
    }

    /// Whether nobody waits for the result any more: the caller has cancelled the call or left, or its deadline has
    /// passed, or the service stops and could not wait longer.
    ///
    /// A blocking handler that runs long should look at this now and then and give up; its result is thrown away. The
    /// future of an async handler is dropped, so it need not look. Costs one atomic load.
    pub fn is_cancelled(&self) -> bool {
        self.context.view().is_some_and(|view| !view.is_wanted())
    }

    /// The event loop of the service: handlers may have it watch descriptors and timers. Its callbacks run on the
    /// service's control thread, which also accepts clients; they should be short.
    ///
    /// `None` only for a call that a test made.
    pub fn event_loop(&self) -> Option<&EventLoop> {
        self.context.view()?.event_loop()
    }

    /// Publishes the events of the program that is called. It may be kept, cloned and sent to other threads.
    pub fn publisher(&self) -> Publisher {
        match &self.context.from {
            // A program that can be called has been declared, and so has a publisher.
            From::Client(view) => view.publisher().unwrap_or_else(Publisher::for_nobody),
            From::Test(publisher) => publisher.clone(),
        }
    }

    /// Has the caller subscribe to an event of the program that is called: for programs whose clients subscribe by
    /// procedures of the program's own. Others leave it to `directory.subscribe`.
    ///
    /// Every event that is published after the caller has its reply is delivered, or counted as lost.
    ///
    /// # Errors
    ///
    /// `overloaded` when the caller has `max_client_subscriptions` already, `invalid_arguments` when the queue is
    /// longer than `max_event_queue` allows.
    pub fn subscribe<T: ?Sized>(&self, event: Event<T>, options: SubscribeOptions) -> Result<Subscription, Error> {
        match &self.context.from {
            From::Client(view) => view.subscribe(event.number(), options),
            From::Test(publisher) => publisher.test_subscribe(event.number()),
        }
    }

    /// Has the caller subscribe to an event of any program of the service, by the name of the program (its highest
    /// version, or `name/version`) and that of the event.
    ///
    /// # Errors
    ///
    /// As [`Self::subscribe`]; and when there is no such program or event.
    pub fn subscribe_by_name(
        &self,
        program: &str,
        event: &str,
        options: SubscribeOptions,
    ) -> Result<Subscription, Error> {
        match &self.context.from {
            From::Client(view) => view.subscribe_by_name(program, event, options),
            From::Test(publisher) => publisher.test_subscribe(0),
        }
    }

    /// Ends a subscription of the caller. Nothing of it is delivered after the reply to this call.
    ///
    /// # Errors
    ///
    /// `invalid_arguments` when the caller has no such subscription.
    pub fn unsubscribe(&self, subscription: Subscription) -> Result<(), Error> {
        match &self.context.from {
            From::Client(view) => view.unsubscribe(subscription),
            From::Test(publisher) => publisher.test_unsubscribe(subscription),
        }
    }

    /// Gives the calls of this connection that come without a deadline this one from now on, until another is set.
    /// Calls that were received already keep theirs.
    pub fn set_default_deadline(&self, deadline: Duration) {
        if let Some(view) = self.context.view() {
            view.set_default_deadline(deadline);
        }
    }

    /// Has the service ping this connection from now on, as it does those that have sent a keepalive packet or called
    /// `directory.hello`: a client that leaves `keepalive_count` pings unanswered is closed.
    ///
    /// For programs whose clients ask for keepalive in a way of their own, as libvirt's do with a feature. Pings of the
    /// client are answered in any case.
    pub fn enable_keepalive(&self) {
        if let Some(view) = self.context.view() {
            view.enable_keepalive();
        }
    }
}

/// A call, by what names it in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallId {
    /// The number of the connection.
    pub client_id: u64,
    /// The serial that the client chose.
    pub serial: u32,
}

thread_local! {
    static CURRENT: Cell<Option<CallId>> = const { Cell::new(None) };
    static TRACE: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

/// The call whose handler runs on this thread right now.
///
/// `None` outside of handlers. For an async procedure it is set while its future is polled.
pub fn current() -> Option<CallId> {
    CURRENT.get()
}

/// The trace context of that call, if it came with one.
pub fn current_trace() -> Option<Arc<str>> {
    TRACE.with_borrow(Option::clone)
}

/// Runs `body` as part of a call; [`current`] tells which, also while `body` unwinds.
pub(crate) fn within<R>(call: CallId, trace: Option<&Arc<str>>, body: impl FnOnce() -> R) -> R {
    /// What was there before.
    struct OfCall(Option<CallId>);
    impl Drop for OfCall {
        #[inline(always)]
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }
    struct OfTrace(Option<Arc<str>>);
    impl Drop for OfTrace {
        fn drop(&mut self) {
            TRACE.set(self.0.take());
        }
    }
    // Few calls have one.
    let _trace = trace.map(|trace| OfTrace(TRACE.replace(Some(trace.clone()))));
    let _call = OfCall(CURRENT.replace(Some(call)));
    body()
}
