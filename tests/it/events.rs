//! The event loop of a service, for those it is open to: embedding programs and handlers.

use std::io::{PipeWriter, Write};
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::prelude::*;
use postroom::event_loop::{Events, Interval};
use postroom::{Call, Error, Program};
use serde::Deserialize;

use crate::support::*;

#[test]
fn an_embedding_program_has_timers_and_watches_on_the_loop_of_its_service() {
    let service = TestService::start();
    let events = service.running().event_loop();
    let (fired, fires) = mpsc::channel();
    let timer =
        events.add_timeout(Interval::Every(Duration::from_millis(1)), move |_| fired.send(()).unwrap()).unwrap();
    for _ in 0..3 {
        fires.recv_timeout(PATIENCE).unwrap();
    }
    events.remove_timeout(timer).unwrap();
    // The callback is dropped, so the channel ends.
    eventually("the callback is dropped", || fires.try_recv() == Err(mpsc::TryRecvError::Disconnected));
}

#[test]
fn the_loop_of_a_service_is_not_stopped_by_those_who_use_it() {
    let service = TestService::start();
    service.running().event_loop().stop();
    service.client().is_usable();
    service.client().is_usable();
}

#[test]
fn callbacks_are_dropped_when_the_service_ends() {
    let service = TestService::start();
    let events = service.running().event_loop().clone();
    let (held, dropped) = mpsc::channel::<()>();
    events.add_timeout(Interval::Disabled, move |_| drop(held.clone())).unwrap();
    assert!(service.stop().is_clean());
    assert_eq!(dropped.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    assert!(events.add_timeout(Interval::EveryIteration, |_| {}).is_err());
}

/// Has the event loop watch a pipe, and tells by another what came.
struct Watcher(Arc<Mutex<Option<(std::io::PipeReader, PipeWriter)>>>);

impl Actor for Watcher {
    type Context = Context<Self>;
}

#[derive(Deserialize, Message)]
#[rtype(result = "Result<(), Error>")]
struct Watch {}

impl Handler<Call<Watch>> for Watcher {
    type Result = Result<(), Error>;
    fn handle(&mut self, call: Call<Watch>, _: &mut Self::Context) -> Self::Result {
        let events = call.event_loop().unwrap();
        let (input, mut output) = self.0.lock().unwrap().take().unwrap();
        let fd = input.as_raw_fd();
        let itself = events.clone();
        let ready = move |event: postroom::event_loop::HandleEvent| {
            let mut buffer = [0; 16];
            let read = std::io::Read::read(&mut &input, &mut buffer).unwrap();
            output.write_all(&buffer[..read]).unwrap();
            itself.remove_handle(event.id).unwrap();
        };
        events.add_handle(fd, Events::READABLE, ready).map(drop).map_err(|error| Error::failed(error.to_string()))
    }
}

#[test]
fn a_handler_has_the_loop_watch_a_descriptor() {
    let (input, mut write) = std::io::pipe().unwrap();
    let (mut read, output) = std::io::pipe().unwrap();
    let pipes = Arc::new(Mutex::new(Some((input, output))));
    let program = |_: &Shared| {
        let watcher = move || Watcher(pipes.clone());
        vec![Program::new("watcher", 0x7761_7463, 1).handler(watcher).procedure::<Watch>(1, "watch").into()]
    };
    let service = TestService::with_programs(program, |_| {});
    service.client().call(0x7761_7463, 1, &[]);
    write.write_all(b"hello").unwrap();
    let mut echoed = [0; 5];
    std::io::Read::read_exact(&mut read, &mut echoed).unwrap();
    assert_eq!(&echoed, b"hello");
}

#[test]
fn a_callback_that_blocks_holds_up_new_clients_and_no_call() {
    let service = TestService::with(|config| {
        config.limits.min_workers = 1;
    });
    let mut client = service.client();
    client.is_usable();
    let (entered, has_entered) = mpsc::channel();
    let (leave, may_leave) = mpsc::channel::<()>();
    let block = move |_| {
        entered.send(()).unwrap();
        let _ = may_leave.recv();
    };
    service.running().event_loop().add_timeout(Interval::EveryIteration, block).unwrap();
    has_entered.recv_timeout(PATIENCE).unwrap();
    // Of every class, and more at once than there are workers.
    for serial in 0..20 {
        client.send(&call(ECHO, echo::BLOCK, serial, &map([("ms", 1.into())])));
    }
    for _ in 0..20 {
        client.packet();
    }
    client.is_usable();
    client.call(TEST, proc::COUNT_INLINE, &[]);
    drop(leave);
    // Those who waited at the door come in.
    service.client().is_usable();
}
