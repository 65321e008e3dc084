//! What workers send to a hub: replies, and what they have written themselves.
//!
//! It lies beside the hub's mailbox, because it has to be seen before the calls of a client are that has read a reply:
//! the hub empties it at the beginning of each turn. Bound: the calls in progress of the hub's clients. Locked for
//! moments only. Beside it, room for what is sent next: [`ROOMS`] emptied lists of each kind, and as many with the hub.
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

/// Room that was used before, for what is sent next: what one thread allocates and another frees is slow.
#[derive(Debug, Default)]
pub(crate) struct Room {
    replies: Vec<Replies>,
    sent: Vec<Vec<Sent>>,
}

/// Room for so many mails of each kind is kept, and for so many clients in one.
const ROOMS: usize = 4;
const CLIENTS: usize = 64;

impl Room {
    /// What was in it is done with.
    pub(crate) fn keep_replies(&mut self, replies: Replies) {
        if self.replies.len() < ROOMS {
            self.replies.push(replies.cleared());
        }
    }

    /// The same.
    pub(crate) fn keep_sent(&mut self, mut sent: Vec<Sent>) {
        if self.sent.len() < ROOMS && sent.capacity() <= CLIENTS {
            sent.clear();
            self.sent.push(sent);
        }
    }

    /// Takes over what another has, as far as there is place; the other keeps the rest.
    fn take_from(&mut self, other: &mut Self) {
        let places = (ROOMS - self.replies.len()).min(other.replies.len());
        self.replies.extend(other.replies.drain(..places));
        let places = (ROOMS - self.sent.len()).min(other.sent.len());
        self.sent.extend(other.sent.drain(..places));
    }
}

#[derive(Debug, Default)]
struct Inner {
    mails: Vec<Mail>,
    room: Room,
}

/// The inbox of one hub.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    inner: Mutex<Inner>,
    has_mail: AtomicBool,
    /// Whether the hub was asked to look and has not begun to.
    asked: AtomicBool,
    /// Whether the hub comes by itself, soon.
    comes: AtomicBool,
}

impl Inbox {
    /// Puts replies in. Returns room for the next.
    pub(crate) fn put_replies(&self, replies: Replies) -> Replies {
        self.put(Mail::Replies(replies), |room| room.replies.pop()).unwrap_or_default()
    }

    /// Puts in what was written, after the replies. Returns room for the next.
    pub(crate) fn put_sent(&self, sent: Vec<Sent>) -> Vec<Sent> {
        self.put(Mail::Sent(sent), |room| room.sent.pop()).unwrap_or_default()
    }

    fn put<T>(&self, mail: Mail, take_room: impl FnOnce(&mut Room) -> T) -> T {
        let mut inner = self.lock();
        inner.mails.push(mail);
        let room = take_room(&mut inner.room);
        drop(inner);
        self.has_mail.store(true, Ordering::SeqCst);
        room
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

    /// Whether there is nothing to take, and nobody has asked the hub to look: what it looks for most of the time.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.has_mail.load(Ordering::SeqCst) && !self.asked.load(Ordering::SeqCst)
    }

    #[cfg(test)]
    pub(crate) fn has_mail(&self) -> bool {
        self.has_mail.load(Ordering::SeqCst)
    }

    /// Takes what there is, in order, into `mails`, which is empty and leaves its room here, as does `room`. False when
    /// there is nothing.
    pub(crate) fn take(&self, mails: &mut Vec<Mail>, room: &mut Room) -> bool {
        // In any case, and first: who puts something in from now on asks again.
        self.asked.store(false, Ordering::SeqCst);
        let has_mail = self.has_mail.swap(false, Ordering::SeqCst);
        if has_mail {
            let mut inner = self.lock();
            std::mem::swap(&mut inner.mails, mails);
            inner.room.take_from(room);
        }
        has_mail
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A push that panics leaves the others, so a poisoned one is still whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(inbox: &Inbox) {
        inbox.put_sent(Vec::new());
    }

    #[test]
    fn a_hub_that_has_looked_in_vain_is_woken_again() {
        let inbox = Inbox::default();
        let mut mails = Vec::new();
        put(&inbox);
        assert!(inbox.take(&mut mails, &mut Room::default()) && mails.len() == 1);
        mails.clear();
        // The hub came by itself before it was asked.
        assert!(inbox.ask());
        assert!(!inbox.take(&mut mails, &mut Room::default()));
        put(&inbox);
        assert!(inbox.ask());
        put(&inbox);
        assert!(!inbox.ask(), "once is enough");
        assert!(inbox.take(&mut mails, &mut Room::default()) && mails.len() == 2);
    }

    #[test]
    fn the_room_of_what_was_taken_goes_to_who_sends_next_and_no_more_of_it_than_its_bound() {
        let (inbox, mut mails, mut room) = (Inbox::default(), Vec::new(), Room::default());
        let sent = || Vec::with_capacity(CLIENTS);
        for _ in 0..2 * ROOMS {
            assert_eq!(inbox.put_sent(sent()).capacity(), 0, "nothing was taken yet");
        }
        assert!(inbox.take(&mut mails, &mut room));
        let taken = mails.drain(..).map(|mail| if let Mail::Sent(sent) = mail { sent } else { panic!("{mail:?}") });
        taken.for_each(|sent| room.keep_sent(sent));
        room.keep_sent(Vec::with_capacity(CLIENTS + 1));
        assert_eq!(room.sent.len(), ROOMS);
        put(&inbox);
        assert!(inbox.take(&mut mails, &mut room));
        for has_room in [true; ROOMS].into_iter().chain([false; 2]) {
            assert_eq!(inbox.put_sent(sent()).capacity() > 0, has_room);
        }
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
                while inbox.take(&mut mails, &mut Room::default()) {
                    found += mails.drain(..).count();
                }
            }
        });
    }
}
