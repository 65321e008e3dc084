//! The task of a client: one connection after another, as its settings have it.
//!
//! ```text
//! connect ──► Conversation ── lost ──► wait ──► connect ── greeted ──► Conversation ──► …
//!                  │                    ▲          │
//!                  │                    └─ failed ─┘
//!                  └── closed here, or lost and not to come back ──► the client has ended
//! ```
//!
//! It alone changes the phase of the client. When it is dropped with its runtime, nobody is left waiting.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;

use tokio::time::Instant;

use super::backoff::Backoff;
use super::conversation::Conversation;
use super::greeting::Greeting;
use super::origin::Origin;
use crate::directory;
use crate::error::{CallError, CloseCause, CloseReason, ConnectError, ConnectProblem};
use crate::exchange::{Link, Phase, State};
use crate::settings::{Reconnect, Settings};

/// The task, before it runs.
#[derive(Debug)]
pub(crate) struct Driver {
    peer: Arc<str>,
    origin: Origin,
    settings: Arc<Settings>,
    link: Arc<Link>,
    backoff: Backoff,
    conversation: Conversation,
}

/// Makes the first connection of a client; the driver that comes back is to be run as a task.
///
/// Cancel safety: dropping the future closes the connection; nothing remains.
pub(crate) async fn connect(
    peer: Arc<str>,
    origin: Origin,
    settings: Arc<Settings>,
) -> Result<(Arc<Link>, Driver), ConnectError> {
    let link = Arc::new(Link::new(State::new(peer.clone())));
    let reconnect = settings.reconnect.unwrap_or_default();
    let patient = settings.reconnect.is_some() && reconnect.wait_for_service;
    let mut backoff = Backoff::new(&reconnect);
    let conversation = loop {
        match establish(&peer, &origin, &settings, &link).await {
            Ok(conversation) => break conversation,
            Err(error) if patient && (error.is_absent() || error.may_pass()) => {
                let delay = backoff.delay();
                log::debug!(peer = &*peer; "{error}; trying again in {delay:?}");
                tokio::time::sleep(delay).await;
            }
            Err(error) => return Err(error),
        }
    };
    let driver = Driver { peer, origin, settings, link: link.clone(), backoff, conversation };
    Ok((link, driver))
}

impl Driver {
    /// Runs until the client is closed, or the connection is lost for good.
    pub(crate) async fn run(mut self) {
        loop {
            let since = Instant::now();
            let reason = {
                let Self { link, conversation, .. } = &mut self;
                poll_fn(|context| conversation.poll(link, context)).await
            };
            let Some(reconnect) = self.settings.reconnect else {
                return self.link.finish(reason);
            };
            if matches!(reason.cause(), CloseCause::ClosedHere) {
                return self.link.finish(reason);
            }
            log::debug!(peer = &*self.peer; "{reason}; connecting again");
            let written = self.conversation.written();
            self.link.change(|state| state.lost(&reason, written, reconnect.resends));
            *self.link.names.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
            self.backoff.lived(since.elapsed());
            let Some(conversation) = self.come_back(&reconnect).await else {
                return self.link.finish(CloseReason::new(self.peer.clone(), CloseCause::ClosedHere));
            };
            self.conversation = conversation;
        }
    }

    /// The next connection, however many attempts it takes. None if the client is being closed.
    async fn come_back(&mut self, reconnect: &Reconnect) -> Option<Conversation> {
        loop {
            let delay = self.backoff.delay();
            unless_closing(&self.link, tokio::time::sleep(delay)).await?;
            let attempt = establish(&self.peer, &self.origin, &self.settings, &self.link);
            match unless_closing(&self.link, attempt).await? {
                Ok(conversation) => return Some(conversation),
                Err(error) => {
                    log::debug!(peer = &*self.peer; "{error}");
                    let wait = error.may_pass() || (reconnect.wait_for_service && error.is_absent());
                    self.link.change(|state| {
                        if wait {
                            state.phase = Phase::Connecting;
                        } else {
                            state.fail_waiting(&CallError::Connect(error.clone()));
                            state.phase = Phase::Unreachable(error);
                        }
                    });
                }
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The task was dropped before it was through: the runtime is gone, or going.
        if self.link.ended.borrow().is_none() {
            self.link.finish(CloseReason::new(self.peer.clone(), CloseCause::RuntimeGone));
        }
    }
}

/// One attempt: a stream, the greeting, and its answer. On success calls are being sent.
async fn establish(
    peer: &Arc<str>,
    origin: &Origin,
    settings: &Settings,
    link: &Link,
) -> Result<Conversation, ConnectError> {
    let attempt = async {
        let stream = origin.open().await.map_err(ConnectProblem::Io)?;
        let mut conversation = Conversation::new(peer.clone(), stream, settings);
        link.lock().begin(&directory::greeting(&settings.name, &settings.version));
        let service = poll_fn(|context| {
            let ended = conversation.poll(link, context);
            match std::mem::replace(&mut conversation.greeting, Greeting::Over) {
                Greeting::Answered(answer) => {
                    if let Poll::Ready(reason) = ended {
                        conversation.ended = Some(reason);
                    }
                    return Poll::Ready(answer.map_err(ConnectProblem::Refused));
                }
                greeting => conversation.greeting = greeting,
            }
            ended.map(|reason| {
                Err(match reason.cause() {
                    CloseCause::Protocol(how) => ConnectProblem::NotPostroom(how.clone()),
                    _ => ConnectProblem::Closed(reason),
                })
            })
        })
        .await?;
        link.change(|state| state.open(service.limits(settings.max_in_flight), service));
        Ok(conversation)
    };
    let result = match tokio::time::timeout(settings.connect_timeout, attempt).await {
        Ok(result) => result,
        Err(_) => Err(ConnectProblem::Timeout(settings.connect_timeout)),
    };
    result.map_err(|problem| ConnectError::new(peer.clone(), problem))
}

/// What `future` comes to, or nothing if the client is being closed first.
async fn unless_closing<F: Future>(link: &Link, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    poll_fn(|context| match link.poll_closing(context) {
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => future.as_mut().poll(context).map(Some),
    })
    .await
}
