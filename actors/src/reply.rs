//! Replies on their way back: what travels from workers to hubs.
//!
//! Replies that are ready together travel in one message per hub and lie behind each other in one buffer, so that
//! those of one client leave in one write. A big reply travels in a buffer of its own and is never copied.

use bytes::Bytes;

use crate::job::{ClientKey, Ticket};

/// From this size on a reply keeps its own buffer; below it, copying is cheaper than another buffer.
const OWN_BUFFER: usize = 16 * 1024;

/// Replies for the clients of one hub, in the order in which they became ready.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    shared: Vec<u8>,
    items: Vec<Item>,
}

#[derive(Debug)]
struct Item {
    client: ClientKey,
    cost: u32,
    body: Body,
}

#[derive(Debug)]
enum Body {
    /// The next bytes of the shared buffer.
    Shared(usize),
    Own(Vec<u8>),
}

/// Replies to one client that lie behind each other.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) client: ClientKey,
    pub(crate) bytes: Bytes,
    /// The length of the buffer that these bytes share with others.
    pub(crate) buffer: usize,
    /// How many replies these are.
    pub(crate) replies: usize,
    /// The sum of the costs of their calls.
    pub(crate) cost: u64,
}

impl Replies {
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Adds one whole packet and leaves `packet` empty.
    pub(crate) fn push(&mut self, ticket: &Ticket, packet: &mut Vec<u8>) {
        let body = if packet.len() < OWN_BUFFER {
            self.shared.extend_from_slice(packet);
            let body = Body::Shared(packet.len());
            packet.clear();
            body
        } else {
            Body::Own(std::mem::take(packet))
        };
        self.items.push(Item { client: ticket.client, cost: ticket.cost, body });
    }

    /// Hands the replies out, those of one client that follow each other as one run.
    pub(crate) fn for_each_run(self, mut deliver: impl FnMut(Run)) {
        let shared = Bytes::from(self.shared);
        let mut start = 0;
        let mut items = self.items.into_iter().peekable();
        while let Some(item) = items.next() {
            let mut cost = u64::from(item.cost);
            let mut replies = 1;
            let (bytes, buffer) = match item.body {
                Body::Own(bytes) => (Bytes::from(bytes), 0),
                Body::Shared(length) => {
                    let mut end = start + length;
                    while let Some(next) = items.peek()
                        && next.client == item.client
                        && let Body::Shared(length) = next.body
                    {
                        end += length;
                        cost += u64::from(next.cost);
                        replies += 1;
                        items.next();
                    }
                    let bytes = shared.slice(start..end);
                    start = end;
                    (bytes, shared.len())
                }
            };
            deliver(Run { client: item.client, bytes, buffer, replies, cost });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(slot: u32, cost: u32) -> Ticket {
        let client = ClientKey { slot, generation: 0 };
        Ticket { hub: 0, client, client_id: 1, program: 1, version: 1, procedure: 1, serial: 0, cost }
    }

    #[test]
    fn replies_of_one_client_that_follow_each_other_become_one_run() {
        let mut replies = Replies::default();
        replies.push(&ticket(1, 10), &mut b"aa".to_vec());
        replies.push(&ticket(1, 20), &mut b"b".to_vec());
        replies.push(&ticket(2, 30), &mut b"ccc".to_vec());
        replies.push(&ticket(2, 1), &mut vec![b'x'; OWN_BUFFER]);
        replies.push(&ticket(2, 40), &mut b"d".to_vec());
        replies.push(&ticket(1, 50), &mut b"e".to_vec());
        let mut runs = Vec::new();
        replies.for_each_run(|run| runs.push((run.client.slot, run.bytes.to_vec(), run.replies, run.cost)));
        assert_eq!(
            runs,
            [
                (1, b"aab".to_vec(), 2, 30),
                (2, b"ccc".to_vec(), 1, 30),
                (2, vec![b'x'; OWN_BUFFER], 1, 1),
                (2, b"d".to_vec(), 1, 40),
                (1, b"e".to_vec(), 1, 50),
            ]
        );
    }
}
