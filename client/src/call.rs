//! The future of a call, as its caller sees it: the name looked up, the call on its way, the deadline watched.
//!
//! It borrows the client and nothing else, least of all the arguments, and it can be moved about while it is polled.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::client::Client;
use crate::error::CallError;
use crate::exchange::{Answer, Flight, Outgoing};
use crate::procedure::{Procedure, Target};

/// A call that is sent when it is first polled, and comes to its result.
///
/// Cancel safety: dropping it cancels the call. A call that was sent may run all the same; its reply is thrown away.
#[must_use = "a call does nothing until it is awaited"]
pub struct Call<'a, T> {
    stage: Stage<'a>,
    deadline: Option<Deadline>,
    finish: fn(Answer) -> Result<T, CallError>,
}

enum Stage<'a> {
    Failed(CallError),
    Resolving(Resolving<'a>, Box<Outgoing>, &'a Client),
    Flying(Flight<'a>),
    Over,
}

type Resolving<'a> = Pin<Box<dyn Future<Output = Result<Procedure, CallError>> + Send + 'a>>;

struct Deadline {
    after: Duration,
    at: Option<Instant>,
    /// Boxed, so that calls without a deadline do not carry room for it, and made when the call first has to wait.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<'a, T> Call<'a, T> {
    /// A call to `target`, whose procedure in `outgoing` is not filled in yet.
    #[inline]
    pub(crate) fn new(
        client: &'a Client,
        target: Target<'a>,
        mut outgoing: Outgoing,
        deadline: Option<Duration>,
        finish: fn(Answer) -> Result<T, CallError>,
    ) -> Self {
        let deadline = deadline.map(|after| {
            // A deadline beyond the end of time is none.
            outgoing.deadline = Instant::now().checked_add(after);
            Deadline { after, at: outgoing.deadline, sleep: None }
        });
        let stage = match target {
            Target::Procedure(procedure) => {
                Stage::Flying(Flight::new(client.link(), Outgoing { procedure, ..outgoing }))
            }
            Target::Name(name) => {
                let resolving = Box::pin(async move { client.resolve(&name).await });
                Stage::Resolving(resolving, Box::new(outgoing), client)
            }
        };
        Self { stage, deadline, finish }
    }

    /// A call that has failed before it was sent.
    pub(crate) fn failed(error: CallError, finish: fn(Answer) -> Result<T, CallError>) -> Self {
        Self { stage: Stage::Failed(error), deadline: None, finish }
    }

    /// How long the call may take, and until when that is.
    pub(crate) fn deadline(&self) -> Option<(Duration, Option<Instant>)> {
        self.deadline.as_ref().map(|deadline| (deadline.after, deadline.at))
    }

    /// The call, to be polled by one who watches the time: it needs no runtime.
    pub(crate) fn without_timer(mut self) -> Self {
        self.deadline = None;
        self
    }

    #[inline]
    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<Result<Answer, CallError>> {
        loop {
            match &mut self.stage {
                Stage::Flying(flight) => return Pin::new(flight).poll(context),
                Stage::Resolving(resolving, ..) => {
                    let resolved = match resolving.as_mut().poll(context) {
                        Poll::Ready(resolved) => resolved,
                        Poll::Pending => return Poll::Pending,
                    };
                    self.stage = match (resolved, std::mem::replace(&mut self.stage, Stage::Over)) {
                        (Ok(procedure), Stage::Resolving(_, outgoing, client)) => {
                            Stage::Flying(Flight::new(client.link(), Outgoing { procedure, ..*outgoing }))
                        }
                        (Err(error), _) => Stage::Failed(error),
                        (Ok(_), stage) => stage,
                    };
                }
                Stage::Failed(_) => match std::mem::replace(&mut self.stage, Stage::Over) {
                    Stage::Failed(error) => return Poll::Ready(Err(error)),
                    stage => self.stage = stage,
                },
                // Polled after it was ready: there is nothing to give, and nobody who may ask.
                Stage::Over => return Poll::Pending,
            }
        }
    }

    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<CallError> {
        let Some(Deadline { after, at: Some(at), sleep }) = &mut self.deadline else {
            return Poll::Pending;
        };
        let sleep = sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(*at)));
        match sleep.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(CallError::Deadline(*after)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T> Future for Call<'_, T> {
    type Output = Result<T, CallError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.poll_answer(context) {
            Poll::Ready(answer) => {
                self.stage = Stage::Over;
                Poll::Ready(answer.and_then(self.finish))
            }
            Poll::Pending => match self.poll_deadline(context) {
                Poll::Ready(error) => {
                    // Dropping the flight cancels the call.
                    self.stage = Stage::Over;
                    self.deadline = None;
                    Poll::Ready(Err(error))
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

impl<T> fmt::Debug for Call<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match &self.stage {
            Stage::Failed(_) => "failed",
            Stage::Resolving(..) => "looking up the name",
            Stage::Flying(_) => "on its way",
            Stage::Over => "over",
        };
        f.debug_struct("Call").field("stage", &stage).field("deadline", &self.deadline()).finish_non_exhaustive()
    }
}
