//! What the tests share: a journal of who was called, pipes, a loop on a thread of its own, and a look into the log.

use std::cell::RefCell;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, Once};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use postroom_actors::event_loop::{Driver, EventLoop, HandleEvent, TimerEvent};

/// How long a test waits for what must happen.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const NOW: Option<Duration> = Some(Duration::ZERO);

/// A list that callbacks write and tests wait for.
pub(crate) struct Journal<T>(Arc<(Mutex<Vec<T>>, Condvar)>);

impl<T> Clone for Journal<T> {
    fn clone(&self) -> Journal<T> {
        Journal(self.0.clone())
    }
}

impl<T: Clone + Send + 'static> Journal<T> {
    pub(crate) fn new() -> Journal<T> {
        Journal(Arc::default())
    }

    pub(crate) fn push(&self, entry: T) {
        self.0.0.lock().unwrap().push(entry);
        self.0.1.notify_all();
    }

    pub(crate) fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.0.0.lock().unwrap())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.0.lock().unwrap().len()
    }

    /// Waits until there are this many entries.
    pub(crate) fn wait(&self, n_entries: usize) {
        let entries = self.0.0.lock().unwrap();
        let (_entries, limit) =
            self.0.1.wait_timeout_while(entries, LIMIT, |entries| entries.len() < n_entries).unwrap();
        assert!(!limit.timed_out(), "waited in vain for {n_entries} entries");
    }

    /// A callback for a handle that writes this.
    pub(crate) fn on_handle(&self, entry: T) -> impl FnMut(HandleEvent) + Send + 'static {
        let journal = self.clone();
        move |_| journal.push(entry.clone())
    }

    /// A callback for a timer that writes this.
    pub(crate) fn on_timer(&self, entry: T) -> impl FnMut(TimerEvent) + Send + 'static {
        let journal = self.clone();
        move |_| journal.push(entry.clone())
    }

    /// Something that writes this when it is dropped.
    pub(crate) fn at_drop(&self, entry: T) -> impl Send + 'static {
        AtDrop(self.clone(), Some(entry))
    }
}

struct AtDrop<T: Clone + Send + 'static>(Journal<T>, Option<T>);

impl<T: Clone + Send + 'static> Drop for AtDrop<T> {
    fn drop(&mut self) {
        self.0.push(self.1.take().unwrap());
    }
}

/// Makes a closure own what it names here.
pub(crate) fn hold<T>(_: &T) {}

/// A pipe, of which the reading end is watched.
pub(crate) struct Pipe {
    pub(crate) reader: PipeReader,
    pub(crate) writer: PipeWriter,
}

impl Pipe {
    pub(crate) fn new() -> Pipe {
        let (reader, writer) = std::io::pipe().unwrap();
        Pipe { reader, writer }
    }

    /// With a byte in it.
    pub(crate) fn full() -> Pipe {
        let pipe = Pipe::new();
        pipe.put();
        pipe
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    pub(crate) fn put(&self) {
        (&self.writer).write_all(b"x").unwrap();
    }

    pub(crate) fn get(&self) {
        (&self.reader).read_exact(&mut [0]).unwrap();
    }
}

/// A loop on a thread of its own, stopped and joined when this is dropped.
pub(crate) struct Running {
    pub(crate) events: EventLoop,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn new() -> Running {
        let (events, mut driver) = EventLoop::new().unwrap();
        Running { events, thread: Some(std::thread::spawn(move || driver.run().unwrap())) }
    }

    /// Waits until the loop has gone through a few iterations, in which all that is ready by now is dispatched.
    pub(crate) fn turn_around(&self) {
        let done = Journal::new();
        let (mut left, callback, events) = (3, done.on_timer(()), self.events.clone());
        let mut callback = callback;
        let tick = move |event: TimerEvent| {
            left -= 1;
            if left == 0 {
                events.remove_timeout(event.id).unwrap();
                callback(event);
            }
        };
        self.events.add_timeout(postroom_actors::event_loop::Interval::EveryIteration, tick).unwrap();
        done.wait(1);
    }

    pub(crate) fn thread_id(&self) -> std::thread::ThreadId {
        self.thread.as_ref().unwrap().thread().id()
    }

    /// Stops the loop and waits for its end.
    pub(crate) fn end(mut self) -> EventLoop {
        self.stop();
        self.events.clone()
    }

    fn stop(&mut self) {
        self.events.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Iterates until the condition holds.
pub(crate) fn iterate_until(driver: &mut Driver, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < end, "iterated in vain");
        driver.iterate(Some(Duration::from_millis(100))).unwrap();
    }
}

thread_local! {
    static LOG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Log;

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LOG.with_borrow_mut(|log| log.push(format!("{} {}", record.level(), record.args())));
    }

    fn flush(&self) {}
}

/// Begins to keep what this thread logs.
pub(crate) fn keep_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Log).unwrap();
        log::set_max_level(log::LevelFilter::Debug);
    });
    take_log();
}

/// What this thread has logged.
pub(crate) fn take_log() -> Vec<String> {
    LOG.take()
}

/// Numbers that look random, the same ones for the same seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// Where the random tests begin.
    pub(crate) fn seed() -> u64 {
        std::env::var("POSTROOM_EVENTTEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
    }
}
