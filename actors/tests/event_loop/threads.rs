//! All operations at once, from several threads and from inside callbacks, on a loop that runs: nothing is known about
//! the order, but what must hold in any order is checked.
//!
//! - Callbacks run on the loop's thread, one at a time.
//! - After a removal has returned on the loop's thread, the callback is not called any more.
//! - Every closure is dropped once, on the loop's thread, not while it runs, with no lock held, and is not called then.
//!
//! A failure names its seed; `POSTROOM_EVENTTEST_SEED=<seed>` begins with it.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use postroom_actors::event_loop::{Driver, EventLoop, Events, HandleId, Interval, LoopError, TimerId};

use crate::support::{Journal, Pipe, Random};

const N_THREADS: u64 = 4;
const N_OPERATIONS: usize = 8000;

#[test]
fn all_at_once_on_a_thread() {
    stress(Random::seed(), |mut driver, known| {
        thread::spawn(move || {
            known.set_thread();
            driver.run().unwrap();
        })
    });
}

#[test]
fn all_at_once_on_an_arbiter() {
    stress(Random::seed(), |mut driver, known| {
        thread::spawn(move || {
            known.set_thread();
            actix_rt::System::new().block_on(async move { driver.drive().await.unwrap() });
        })
    });
}

struct Known {
    events: EventLoop,
    seed: u64,
    loop_thread: Mutex<Option<ThreadId>>,
    pipes: Vec<Pipe>,
    sockets: (UnixStream, UnixStream),
    handles: Mutex<Vec<(HandleId, Arc<State>)>>,
    timers: Mutex<Vec<(TimerId, Arc<State>)>>,
    inside: AtomicBool,
    n_made: AtomicUsize,
    n_dropped: AtomicUsize,
    /// What went wrong, since a panic in a callback only costs the callback.
    faults: Journal<String>,
}

/// What is known of one closure.
#[derive(Default)]
struct State {
    runs: AtomicBool,
    is_removed: AtomicBool,
    is_dropped: AtomicBool,
}

fn stress(seed: u64, start: impl FnOnce(Driver, Arc<Known>) -> thread::JoinHandle<()>) {
    let (events, driver) = EventLoop::new().unwrap();
    let known = Arc::new(Known {
        events,
        seed,
        loop_thread: Mutex::default(),
        pipes: (0..8).map(|n| if n % 2 == 0 { Pipe::new() } else { Pipe::full() }).collect(),
        sockets: UnixStream::pair().unwrap(),
        handles: Mutex::default(),
        timers: Mutex::default(),
        inside: AtomicBool::new(false),
        n_made: AtomicUsize::new(0),
        n_dropped: AtomicUsize::new(0),
        faults: Journal::new(),
    });
    let loop_thread = start(driver, known.clone());
    thread::scope(|scope| {
        for n in 0..N_THREADS {
            let known = &known;
            scope.spawn(move || {
                let mut random = Random(seed ^ (n << 48));
                for _ in 0..N_OPERATIONS {
                    known.operate(&mut random);
                }
            });
        }
    });
    known.events.stop();
    loop_thread.join().unwrap();
    assert_eq!(known.faults.take(), Vec::<String>::new(), "seed {seed}");
    let (n_made, n_dropped) = (known.n_made.load(Ordering::SeqCst), known.n_dropped.load(Ordering::SeqCst));
    assert_eq!((n_made, true), (n_dropped, n_made > 1000), "closures made and dropped, seed {seed}");
}

impl Known {
    fn set_thread(&self) {
        *self.loop_thread.lock().unwrap() = Some(thread::current().id());
    }

    fn is_loop_thread(&self) -> bool {
        *self.loop_thread.lock().unwrap() == Some(thread::current().id())
    }

    fn check(&self, holds: bool, what: &str) {
        if !holds {
            self.faults.push(format!("{what}, seed {}", self.seed));
        }
    }

    fn operate(self: &Arc<Self>, random: &mut Random) {
        let mask = Events::from_bits(random.below(4) as i32).unwrap();
        let interval = match random.below(3) {
            0 => Interval::Disabled,
            1 => Interval::EveryIteration,
            _ => Interval::Every(Duration::from_micros(random.below(2000) as u64)),
        };
        match random.below(10) {
            0 | 1 if self.handles.lock().unwrap().len() < 64 => {
                let at = random.below(self.pipes.len() + 1);
                let fd = self.pipes.get(at).map_or(self.sockets.0.as_raw_fd(), Pipe::fd);
                let (state, mut callback) = self.callback(random.next());
                let id = self.events.add_handle(fd, mask, move |_| callback()).unwrap();
                self.handles.lock().unwrap().push((id, state));
            }
            2 if self.timers.lock().unwrap().len() < 64 => {
                let (state, mut callback) = self.callback(random.next());
                let id = self.events.add_timeout(interval, move |_| callback()).unwrap();
                self.timers.lock().unwrap().push((id, state));
            }
            3 | 4 => {
                let chosen = choose(&self.handles, random, |list, at| list[at].0);
                chosen.into_iter().for_each(|id| drop(self.events.update_handle(id, mask)));
            }
            5 => {
                let chosen = choose(&self.timers, random, |list, at| list[at].0);
                chosen.into_iter().for_each(|id| drop(self.events.update_timeout(id, interval)));
            }
            6 | 7 => {
                if let Some((id, state)) = choose(&self.handles, random, |list, at| list.swap_remove(at)) {
                    self.removed(self.events.remove_handle(id), &state);
                    self.check(self.events.remove_handle(id).is_err(), "a handle was removed twice");
                }
            }
            8 => {
                if let Some((id, state)) = choose(&self.timers, random, |list, at| list.swap_remove(at)) {
                    self.removed(self.events.remove_timeout(id), &state);
                }
            }
            _ => {}
        }
    }

    fn removed(&self, result: Result<(), LoopError>, state: &State) {
        self.check(result.is_ok(), "a removal was refused");
        if self.is_loop_thread() {
            state.is_removed.store(true, Ordering::SeqCst);
        }
    }

    fn callback(self: &Arc<Self>, seed: u64) -> (Arc<State>, impl FnMut() + Send + 'static) {
        self.n_made.fetch_add(1, Ordering::SeqCst);
        let state = Arc::new(State::default());
        let (known, guard) = (self.clone(), Guard(self.clone(), state.clone()));
        let mut random = Random(seed);
        let callback = move || {
            let state = &guard.1;
            known.check(known.is_loop_thread(), "called on another thread");
            known.check(!known.inside.swap(true, Ordering::SeqCst), "two callbacks at once");
            known.check(!state.is_removed.load(Ordering::SeqCst), "called after it was removed");
            known.check(!state.is_dropped.load(Ordering::SeqCst), "called after it was dropped");
            state.runs.store(true, Ordering::SeqCst);
            if random.one_in(4) {
                known.operate(&mut random);
            }
            state.runs.store(false, Ordering::SeqCst);
            known.inside.store(false, Ordering::SeqCst);
        };
        (state, callback)
    }
}

fn choose<T, R>(list: &Mutex<Vec<T>>, random: &mut Random, take: impl FnOnce(&mut Vec<T>, usize) -> R) -> Option<R> {
    let mut list = list.lock().unwrap();
    let at = random.below(list.len().max(1));
    (!list.is_empty()).then(|| take(&mut list, at))
}

struct Guard(Arc<Known>, Arc<State>);

impl Drop for Guard {
    fn drop(&mut self) {
        let Guard(known, state) = self;
        known.check(known.is_loop_thread(), "dropped on another thread");
        known.check(!state.runs.load(Ordering::SeqCst), "dropped while it runs");
        known.check(!state.is_dropped.swap(true, Ordering::SeqCst), "dropped twice");
        // Would wait for ever if the lock were held.
        known.check(known.events.remove_handle(HandleId::try_from(0).unwrap()).is_err(), "there is no such handle");
        known.n_dropped.fetch_add(1, Ordering::SeqCst);
    }
}
