//! The one loop of this process, registered with libvirt, on a thread of its own.

use std::sync::{OnceLock, mpsc};
use std::thread::{self, ThreadId};

use postroom_libvirt::Registration;
use postroom_libvirt::event_loop::{EventLoop, Interval};

use super::PATIENCE;

pub struct TheLoop {
    registration: Registration,
    thread: ThreadId,
}

/// The loop, registered and running.
pub fn the_loop() -> &'static TheLoop {
    static LOOP: OnceLock<TheLoop> = OnceLock::new();
    LOOP.get_or_init(|| {
        let (events, mut driver) = EventLoop::new().unwrap();
        let registration = postroom_libvirt::register(&events).unwrap();
        let thread = thread::spawn(move || driver.run().unwrap());
        TheLoop { registration, thread: thread.thread().id() }
    })
}

impl TheLoop {
    pub fn events(&self) -> &EventLoop {
        self.registration.event_loop()
    }

    pub fn thread(&self) -> ThreadId {
        self.thread
    }

    /// Waits until the loop has gone through two iterations from their beginning to their end: by then it has called
    /// and dropped whatever there was to call and to drop.
    pub fn turn(&self) {
        let (told, turns) = mpsc::channel();
        let timer = self
            .events()
            .add_timeout(Interval::EveryIteration, move |_| {
                let _ = told.send(());
            })
            .unwrap();
        for _ in 0..4 {
            turns.recv_timeout(PATIENCE).unwrap();
        }
        self.events().remove_timeout(timer).unwrap();
    }
}
