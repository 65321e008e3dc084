//! Random sequences of operations, from several threads and from inside callbacks, on a loop and on a model of it in a
//! hundred lines. One operation comes after the other, whichever thread makes it, or there would be nothing to compare. After every iteration both must have the same journal: who was called with what, what each operation
//! returned, what was dropped, all in the same order.
//!
//! A failure names its seed; `POSTROOM_EVENTTEST_SEED=<seed>` begins with it.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread;
use std::time::Duration;

use postroom_actors::event_loop::{Driver, EventLoop, Events, HandleId, Interval, TimerId};
use rustix::event::{EventfdFlags, eventfd};

use crate::support::{NOW, Random};

const N_SEQUENCES: u64 = 300;
const N_STEPS: usize = 250;
/// More of either kind are not added, or callbacks that add some would have no end.
const N_WATCHES: usize = 60;
const N_PIPES: usize = 3;
/// Pipes, then sockets, then an eventfd, then a regular file.
const N_SOURCES: usize = N_PIPES + 2 + 1 + 1;
const EVENTFD: usize = N_SOURCES - 2;
/// Threads beside the loop's own that operations come from.
const N_HANDS: usize = 3;

#[test]
fn model_of_random_sequences() {
    let first = Random::seed();
    // A panic that a callback is made to have is no news.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref::<&str>() != Some(&PANIC) {
            hook(info);
        }
    }));
    for seed in first..first + N_SEQUENCES {
        sequence(seed);
    }
}

const PANIC: &str = "as the model says";

fn sequence(seed: u64) {
    let mut random = Random(seed);
    let (mut real, mut model) = (Real::new(seed), Model { seed, ..Model::default() });
    for step in 0..N_STEPS {
        if random.one_in(3) {
            let n_real = real.driver.iterate(NOW).unwrap();
            let n_model = model.iterate();
            let journal = std::mem::take(&mut real.world.lock().journal);
            assert_eq!(journal, std::mem::take(&mut model.journal), "seed {seed}, step {step}");
            assert_eq!(n_real, n_model, "seed {seed}, step {step}");
        } else {
            let op = Op::random(&mut random);
            real.world.apply(op);
            model.apply(op);
        }
    }
    let Real { driver, world } = real;
    drop(driver);
    model.end();
    assert_eq!(world.lock().journal, model.journal, "seed {seed}, at the end");
}

/// Operations name watches by the order in which they were added, modulo how many there have been.
#[derive(Clone, Copy, Debug)]
enum Op {
    AddHandle(usize, Events),
    UpdateHandle(usize, Events),
    RemoveHandle(usize),
    AddTimeout(Interval),
    UpdateTimeout(usize, Interval),
    RemoveTimeout(usize),
    Put(usize),
    Drain(usize),
    HangUp(usize),
}

impl Op {
    fn random(random: &mut Random) -> Op {
        let masks = [0, 1, 1, 2, 3, 4, 8].map(|bits| Events::from_bits(bits).unwrap());
        let intervals = [Interval::Disabled, Interval::EveryIteration, Interval::Every(Duration::from_secs(9999))];
        let (any, source) = (random.below(1000), random.below(N_SOURCES));
        let (mask, interval) = (masks[random.below(masks.len())], intervals[random.below(3)]);
        match random.below(24) {
            0..=3 => Op::AddHandle(source, mask),
            4..=7 => Op::UpdateHandle(any, mask),
            8..=10 => Op::RemoveHandle(any),
            11..=12 => Op::AddTimeout(interval),
            13..=15 => Op::UpdateTimeout(any, interval),
            16..=17 => Op::RemoveTimeout(any),
            18..=20 => Op::Put(source),
            21..=22 => Op::Drain(source),
            _ if random.one_in(4) => Op::HangUp(source),
            _ => Op::Put(source),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Handle(usize),
    Timer(usize),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Called(Who, Events),
    Done(bool),
    Dropped(Who),
}

/// What a callback does when it is called for the `n`th time, and whether it panics then.
fn script(seed: u64, who: Who, n: usize) -> (Vec<Op>, bool) {
    let which = match who {
        Who::Handle(number) => number * 2,
        Who::Timer(number) => number * 2 + 1,
    };
    let mut random = Random(seed ^ ((which as u64) << 32) ^ ((n as u64) << 52));
    let n_ops = random.below(6).saturating_sub(3);
    ((0..n_ops).map(|_| Op::random(&mut random)).collect(), random.one_in(40))
}

struct Real {
    driver: Driver,
    world: World,
}

#[derive(Clone)]
struct World {
    events: EventLoop,
    seed: u64,
    inner: Arc<Mutex<Inner>>,
    /// The other threads; they end when nobody can ask them any more.
    hands: Arc<Vec<Hand>>,
}

/// A thread that makes operations for others.
struct Hand(mpsc::Sender<(World, Op, mpsc::Sender<()>)>);

impl Hand {
    fn new() -> Hand {
        let (orders, asked) = mpsc::channel::<(World, Op, mpsc::Sender<()>)>();
        thread::spawn(move || {
            for (world, op, done) in asked {
                world.make(op);
                // Before the answer, so that this thread is not the last to know of the world.
                drop(world);
                let _ = done.send(());
            }
        });
        Hand(orders)
    }

    fn make(&self, world: World, op: Op) {
        let (done, is_done) = mpsc::channel();
        self.0.send((world, op, done)).unwrap();
        is_done.recv().unwrap();
    }
}

struct Inner {
    sources: Vec<Source>,
    handles: Vec<HandleId>,
    timers: Vec<TimerId>,
    journal: Vec<Entry>,
}

enum Source {
    Pipe(PipeReader, Option<PipeWriter>),
    Socket(UnixStream, Option<UnixStream>),
    Counter(OwnedFd),
    File(std::fs::File),
}

impl Real {
    fn new(seed: u64) -> Real {
        let (events, driver) = EventLoop::new().unwrap();
        let mut sources = Vec::new();
        for _ in 0..N_PIPES {
            let (reader, writer) = std::io::pipe().unwrap();
            rustix::io::ioctl_fionbio(&reader, true).unwrap();
            sources.push(Source::Pipe(reader, Some(writer)));
        }
        for _ in N_PIPES..EVENTFD {
            let (ours, theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            sources.push(Source::Socket(ours, Some(theirs)));
        }
        sources.push(Source::Counter(eventfd(0, EventfdFlags::NONBLOCK).unwrap()));
        sources.push(Source::File(tempfile::tempfile().unwrap()));
        let inner = Inner { sources, handles: Vec::new(), timers: Vec::new(), journal: Vec::new() };
        let hands = Arc::new((0..N_HANDS).map(|_| Hand::new()).collect());
        Real { driver, world: World { events, seed, inner: Arc::new(Mutex::new(inner)), hands } }
    }
}

impl World {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn handle(&self, any: usize) -> Option<HandleId> {
        let inner = self.lock();
        (!inner.handles.is_empty()).then(|| inner.handles[any % inner.handles.len()])
    }

    fn timer(&self, any: usize) -> Option<TimerId> {
        let inner = self.lock();
        (!inner.timers.is_empty()).then(|| inner.timers[any % inner.timers.len()])
    }

    /// Makes an operation, on this thread or on another that is waited for.
    fn apply(&self, op: Op) {
        let n_done = self.lock().journal.len();
        let mut random = Random(self.seed ^ (n_done as u64) << 20);
        match self.hands.get(random.below(2 * N_HANDS)) {
            Some(hand) => hand.make(self.clone(), op),
            None => self.make(op),
        }
    }

    fn make(&self, op: Op) {
        let done = match op {
            Op::AddHandle(..) if self.lock().handles.len() == N_WATCHES => false,
            Op::AddTimeout(..) if self.lock().timers.len() == N_WATCHES => false,
            Op::AddHandle(source, mask) => {
                let number = self.lock().handles.len();
                let fd = self.lock().fd(source);
                let mut callback = self.callback(Who::Handle(number));
                let id = self.events.add_handle(fd, mask, move |event| callback(event.events)).unwrap();
                self.lock().handles.push(id);
                true
            }
            Op::UpdateHandle(any, mask) => {
                self.handle(any).is_some_and(|id| self.events.update_handle(id, mask).is_ok())
            }
            Op::RemoveHandle(any) => self.handle(any).is_some_and(|id| self.events.remove_handle(id).is_ok()),
            Op::AddTimeout(interval) => {
                let number = self.lock().timers.len();
                let mut callback = self.callback(Who::Timer(number));
                let id = self.events.add_timeout(interval, move |_| callback(Events::NONE)).unwrap();
                self.lock().timers.push(id);
                true
            }
            Op::UpdateTimeout(any, interval) => {
                self.timer(any).is_some_and(|id| self.events.update_timeout(id, interval).is_ok())
            }
            Op::RemoveTimeout(any) => self.timer(any).is_some_and(|id| self.events.remove_timeout(id).is_ok()),
            Op::Put(source) => self.lock().put(source),
            Op::Drain(source) => self.lock().drain(source),
            Op::HangUp(source) => self.lock().hang_up(source),
        };
        self.lock().journal.push(Entry::Done(done));
    }

    fn callback(&self, who: Who) -> impl FnMut(Events) + Send + 'static {
        let (world, mut n_calls) = (self.clone(), 0);
        let guard = JournalDrop(self.clone(), who);
        move |events| {
            let _ = &guard;
            world.lock().journal.push(Entry::Called(who, events));
            let (ops, panics) = script(world.seed, who, n_calls);
            n_calls += 1;
            ops.into_iter().for_each(|op| world.apply(op));
            if panics {
                std::panic::panic_any(PANIC);
            }
        }
    }
}

struct JournalDrop(World, Who);

impl Drop for JournalDrop {
    fn drop(&mut self) {
        self.0.lock().journal.push(Entry::Dropped(self.1));
    }
}

impl Inner {
    fn fd(&self, source: usize) -> RawFd {
        match &self.sources[source] {
            Source::Pipe(reader, _) => reader.as_raw_fd(),
            Source::Socket(ours, _) => ours.as_raw_fd(),
            Source::Counter(counter) => counter.as_raw_fd(),
            Source::File(file) => file.as_raw_fd(),
        }
    }

    fn put(&mut self, source: usize) -> bool {
        match &mut self.sources[source] {
            Source::Pipe(_, Some(writer)) => writer.write_all(b"x").is_ok(),
            Source::Socket(_, Some(theirs)) => theirs.write_all(b"x").is_ok(),
            Source::Counter(counter) => rustix::io::write(counter, &1_u64.to_ne_bytes()).is_ok(),
            _ => false,
        }
    }

    fn drain(&mut self, source: usize) -> bool {
        let mut room = [0; 4096];
        match &mut self.sources[source] {
            Source::Pipe(reader, _) => reader.read(&mut room).is_ok_and(|n| n > 0),
            Source::Socket(ours, _) => ours.read(&mut room).is_ok_and(|n| n > 0),
            Source::Counter(counter) => rustix::io::read(counter, &mut room[..8]).is_ok(),
            Source::File(_) => false,
        }
    }

    fn hang_up(&mut self, source: usize) -> bool {
        match &mut self.sources[source] {
            Source::Pipe(_, writer) => writer.take().is_some(),
            Source::Socket(_, theirs) => theirs.take().is_some(),
            Source::Counter(_) | Source::File(_) => false,
        }
    }
}

/// The rules, as plainly as possible.
#[derive(Default)]
struct Model {
    seed: u64,
    n_bytes: [usize; N_SOURCES],
    hung_up: [bool; N_SOURCES],
    /// By number; removed ones stay, so that numbers do.
    handles: Vec<Watch>,
    timers: Vec<Watch>,
    last_order: usize,
    running: Option<Who>,
    discarded: Vec<Who>,
    journal: Vec<Entry>,
}

struct Watch {
    source: usize,
    mask: Events,
    fires: bool,
    order: usize,
    is_there: bool,
    n_calls: usize,
}

impl Model {
    fn order(&mut self) -> usize {
        self.last_order += 1;
        self.last_order
    }

    fn watch(&mut self, who: Who) -> &mut Watch {
        match who {
            Who::Handle(number) => &mut self.handles[number],
            Who::Timer(number) => &mut self.timers[number],
        }
    }

    fn apply(&mut self, op: Op) {
        let handle = |any: usize| any.checked_rem(self.handles.len()).filter(|at| self.handles[*at].is_there);
        let timer = |any: usize| any.checked_rem(self.timers.len()).filter(|at| self.timers[*at].is_there);
        let done = match op {
            Op::AddHandle(..) if self.handles.len() == N_WATCHES => false,
            Op::AddTimeout(..) if self.timers.len() == N_WATCHES => false,
            Op::AddHandle(source, mask) => {
                let order = self.order();
                self.handles.push(Watch { source, mask, fires: false, order, is_there: true, n_calls: 0 });
                true
            }
            Op::UpdateHandle(any, mask) => handle(any).is_some_and(|at| {
                if self.handles[at].mask != mask {
                    self.handles[at].mask = mask;
                    self.handles[at].order = self.order();
                }
                true
            }),
            Op::RemoveHandle(any) => handle(any).is_some_and(|at| self.remove(Who::Handle(at))),
            Op::AddTimeout(interval) => {
                let (order, fires) = (self.order(), interval == Interval::EveryIteration);
                self.timers.push(Watch { source: 0, mask: Events::NONE, fires, order, is_there: true, n_calls: 0 });
                true
            }
            Op::UpdateTimeout(any, interval) => timer(any).is_some_and(|at| {
                self.timers[at].fires = interval == Interval::EveryIteration;
                self.timers[at].order = self.order();
                true
            }),
            Op::RemoveTimeout(any) => timer(any).is_some_and(|at| self.remove(Who::Timer(at))),
            Op::Put(source) => {
                let takes = source < N_SOURCES - 1 && !self.hung_up[source];
                self.n_bytes[source] += usize::from(takes);
                takes
            }
            Op::Drain(source) => std::mem::take(&mut self.n_bytes[source]) > 0,
            Op::HangUp(source) => source < EVENTFD && !std::mem::replace(&mut self.hung_up[source], true),
        };
        self.journal.push(Entry::Done(done));
    }

    fn remove(&mut self, who: Who) -> bool {
        self.watch(who).is_there = false;
        if self.running != Some(who) {
            self.discarded.push(who);
        }
        true
    }

    fn happened(&self, source: usize) -> Events {
        let mut events = Events::NONE;
        let (has_bytes, hung_up) = (self.n_bytes[source] > 0, self.hung_up[source]);
        let (is_socket, is_file) = ((N_PIPES..EVENTFD).contains(&source), source == N_SOURCES - 1);
        if has_bytes || is_file || (is_socket && hung_up) {
            events |= Events::READABLE;
        }
        if is_socket || is_file || source == EVENTFD {
            events |= Events::WRITABLE;
        }
        if hung_up {
            events |= Events::HANG_UP;
        }
        events
    }

    fn iterate(&mut self) -> usize {
        let mut ready = Vec::new();
        for (at, watch) in self.handles.iter().enumerate().filter(|(_, watch)| watch.is_there) {
            let asked = watch.mask | Events::ERROR | Events::HANG_UP;
            let events = self.happened(watch.source) & asked;
            if !watch.mask.is_empty() && !events.is_empty() {
                ready.push((watch.order, Who::Handle(at), events));
            }
        }
        for (at, watch) in self.timers.iter().enumerate().filter(|(_, watch)| watch.is_there && watch.fires) {
            ready.push((watch.order, Who::Timer(at), Events::NONE));
        }
        ready.sort_unstable_by_key(|(order, ..)| *order);
        let mut n_called = 0;
        for (order, who, events) in ready {
            let watch = self.watch(who);
            if watch.is_there && watch.order == order {
                let n_calls = watch.n_calls;
                watch.n_calls += 1;
                n_called += 1;
                self.call(who, events, n_calls);
            }
        }
        self.drop_discarded();
        n_called
    }

    fn call(&mut self, who: Who, events: Events, n_calls: usize) {
        self.running = Some(who);
        self.journal.push(Entry::Called(who, events));
        let (ops, panics) = script(self.seed, who, n_calls);
        ops.into_iter().for_each(|op| self.apply(op));
        self.watch(who).is_there &= !panics;
        if !self.watch(who).is_there {
            self.discarded.push(who);
        }
        self.running = None;
    }

    fn drop_discarded(&mut self) {
        self.journal.extend(self.discarded.drain(..).map(Entry::Dropped));
    }

    fn end(&mut self) {
        self.drop_discarded();
        let all = self.handles.iter().enumerate().map(|(at, watch)| (watch, Who::Handle(at)));
        let all = all.chain(self.timers.iter().enumerate().map(|(at, watch)| (watch, Who::Timer(at))));
        let mut left: Vec<_> = all.filter(|(watch, _)| watch.is_there).map(|(watch, who)| (watch.order, who)).collect();
        left.sort_unstable_by_key(|(order, _)| *order);
        self.journal.extend(left.into_iter().map(|(_, who)| Entry::Dropped(who)));
    }
}
