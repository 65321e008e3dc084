//! The least client with a future for each call: what callers send at the same time leaves in one write.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;

use crate::Result;
use crate::load::calls::{self, Caller};
use crate::load::{Outcome, Plan};

const HEAD: usize = 28;
const SERIAL: usize = 20;
const BUFFER: usize = 64 * 1024;

pub fn calls(plan: &Plan) -> Result<Outcome> {
    calls::run(plan, || async {
        let (input, output) = UnixStream::connect(&plan.address).await?.into_split();
        let shared = Rc::<Shared>::default();
        tokio::task::spawn_local(write(output, shared.clone()));
        tokio::task::spawn_local(read(input, shared.clone()));
        Ok(Calling(shared))
    })
}

#[derive(Clone)]
struct Calling(Rc<Shared>);

#[derive(Default)]
struct Shared {
    output: RefCell<BytesMut>,
    written: Notify,
    /// The calls under way, by their number.
    waiting: RefCell<HashMap<u32, Waiting>>,
    last_serial: Cell<u32>,
}

enum Waiting {
    Caller(Option<Waker>),
    Reply(Bytes),
}

impl Caller for Calling {
    async fn call(&self, id: u64, data: &Bytes) -> Result<(u64, usize)> {
        let shared = &self.0;
        let serial = shared.last_serial.get().wrapping_add(1);
        shared.last_serial.set(serial);
        {
            let mut output = shared.output.borrow_mut();
            if output.is_empty() {
                shared.written.notify_one();
            }
            let len = HEAD + size_of::<u64>() + data.len();
            let mut head = [0; HEAD];
            head[..4].copy_from_slice(&(len as u32).to_be_bytes());
            head[SERIAL..SERIAL + 4].copy_from_slice(&serial.to_be_bytes());
            output.extend_from_slice(&head);
            output.extend_from_slice(&id.to_be_bytes());
            output.extend_from_slice(data);
        }
        shared.waiting.borrow_mut().insert(serial, Waiting::Caller(None));
        let mut reply = poll_fn(|context| {
            let mut waiting = shared.waiting.borrow_mut();
            match waiting.remove(&serial) {
                Some(Waiting::Reply(reply)) => Poll::Ready(reply),
                _ => {
                    waiting.insert(serial, Waiting::Caller(Some(context.waker().clone())));
                    Poll::Pending
                }
            }
        })
        .await;
        Ok((reply.try_get_u64()?, reply.len()))
    }
}

async fn write(mut output: OwnedWriteHalf, shared: Rc<Shared>) {
    loop {
        shared.written.notified().await;
        let mut bytes = std::mem::take(&mut *shared.output.borrow_mut());
        // A connection that is lost ends the reader, and the slots wait until the run has taken too long.
        if output.write_all(&bytes).await.is_err() {
            return;
        }
        let mut next = shared.output.borrow_mut();
        if next.is_empty() {
            // Its memory is used again.
            bytes.clear();
            *next = bytes;
        }
    }
}

async fn read(mut input: OwnedReadHalf, shared: Rc<Shared>) {
    let mut buffer = BytesMut::with_capacity(BUFFER);
    while let Ok(1..) = input.read_buf(&mut buffer).await {
        while let Some(word) = buffer.first_chunk::<4>() {
            let len = u32::from_be_bytes(*word) as usize;
            if len > buffer.len() || len < HEAD {
                buffer.reserve(len);
                break;
            }
            let mut packet = buffer.split_to(len).freeze();
            packet.advance(SERIAL);
            let serial = packet.get_u32();
            packet.advance(HEAD - SERIAL - 4);
            if let Some(Waiting::Caller(Some(waker))) =
                shared.waiting.borrow_mut().insert(serial, Waiting::Reply(packet))
            {
                waker.wake();
            }
        }
        buffer.reserve(BUFFER / 4);
    }
    eprintln!("the server closed a connection");
    std::process::exit(1);
}
