//! What workers send to a hub: replies, and what they have written themselves.
//!
//! It lies beside the hub's mailbox, because it has to be seen before the calls of a client are that has read a reply:
//! the hub empties it at the beginning of each turn. Bound: the calls in progress of the hub's clients. Locked for
//! moments only.
//!
//! A worker that has written its replies in full need not wake the hub, which only has to take note, if that comes by
//! itself [`SOON`]: it does for a while after each time that it has handed on calls.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::reply::{Replies, Sent};

/// How long what needs no haste may lie in an inbox: unnoticeable in timeouts, which count in seconds, and long enough
/// that a busy hub has taken a turn of its own by then.
pub(crate) const SOON: Duration = Duration::from_millis(1);

/// One thing that was sent to a hub.
#[derive(Debug)]
pub(crate) enum Mail {
    /// Calls are done, and these are their replies, but for those that the sender writes.
    Replies(Replies),
    /// Replies were written, or could not be: after the message that the calls are done.
    Sent(Vec<Sent>),
}

/// The inbox of one hub.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    mails: Mutex<Vec<Mail>>,
    has_mail: AtomicBool,
    /// Whether the hub was asked to look and has not begun to.
    asked: AtomicBool,
    /// Whether the hub comes by itself, soon.
    comes: AtomicBool,
}

impl Inbox {
    pub(crate) fn put(&self, mail: Mail) {
        self.lock().push(mail);
        self.has_mail.store(true, Ordering::SeqCst);
    }

    /// Whether the hub comes by itself, soon. It has not looked since what was put in before this was asked.
    pub(crate) fn comes(&self) -> bool {
        self.comes.load(Ordering::SeqCst)
    }

    /// The hub will look soon, or not from now on: then it looks once more after this.
    pub(crate) fn will_come(&self, comes: bool) {
        self.comes.store(comes, Ordering::SeqCst);
    }

    /// Whether the caller has to wake the hub: nobody else has since it looked last.
    pub(crate) fn ask(&self) -> bool {
        !self.asked.swap(true, Ordering::SeqCst)
    }

    #[cfg(test)]
    pub(crate) fn has_mail(&self) -> bool {
        self.has_mail.load(Ordering::SeqCst)
    }

    /// Takes what there is, in order, into `mails`, which is empty and leaves its room here. False when there is nothing.
    pub(crate) fn take(&self, mails: &mut Vec<Mail>) -> bool {
        // In any case, and first: who puts something in from now on asks again.
        self.asked.store(false, Ordering::SeqCst);
        let has_mail = self.has_mail.swap(false, Ordering::SeqCst);
        if has_mail {
            std::mem::swap(&mut *self.lock(), mails);
        }
        has_mail
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Mail>> {
        // A push that panics leaves the others, so a poisoned one is still whole.
        self.mails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(inbox: &Inbox) {
        inbox.put(Mail::Sent(Vec::new()));
    }

    #[test]
    fn a_hub_that_has_looked_in_vain_is_woken_again() {
        let inbox = Inbox::default();
        let mut mails = Vec::new();
        put(&inbox);
        assert!(inbox.take(&mut mails) && mails.len() == 1);
        mails.clear();
        // The hub came by itself before it was asked.
        assert!(inbox.ask());
        assert!(!inbox.take(&mut mails));
        put(&inbox);
        assert!(inbox.ask());
        put(&inbox);
        assert!(!inbox.ask(), "once is enough");
        assert!(inbox.take(&mut mails) && mails.len() == 2);
    }

    #[test]
    fn what_several_threads_put_in_is_found_by_whoever_looks_when_asked_to() {
        const EACH: usize = 20_000;
        let inbox = Inbox::default();
        let (wake, woken) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let (inbox, wake) = (&inbox, wake.clone());
                scope.spawn(move || {
                    for _ in 0..EACH {
                        put(inbox);
                        if inbox.ask() {
                            wake.send(()).unwrap();
                        }
                    }
                });
            }
            let (mut found, mut mails) = (0, Vec::new());
            while found < 2 * EACH {
                woken.recv_timeout(Duration::from_secs(60)).expect("nobody woke the hub, and there is mail");
                while inbox.take(&mut mails) {
                    found += mails.drain(..).count();
                }
            }
        });
    }
}
