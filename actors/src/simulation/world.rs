//! Time, and what happens in it: the events of a run, in an order that the seed decides.
//!
//! Whoever was woken comes to it after a short time of its own, so every order of what could happen at once comes up in
//! some run. Each event is one step of one actor; what threads do within a step is `actors/loom`'s to try.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::client::Remote;
use super::config::Config;
use super::hub::{Hub, Shared, Wake, soon};
use super::ledger::{Ledger, TICK};
use super::pipe::Pipe;
use super::random::Random;
use super::workers::{Runs, Seat, Supervisor};
use crate::estimate::MAX_WAIT;
use crate::hub::Hubs;
use crate::job::ClientKey;
use crate::pool::End;
use crate::pool::handover::Handover;
use crate::program::registry::Registry;
use crate::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Client(u64),
    /// A dead client's machine goes down.
    GiveUp(u64),
    Reader(usize, ClientKey),
    Turn(usize),
    /// A hub's one timer goes off, unless it was set anew since: which of its settings this is.
    Timer(usize, u64),
    /// Replies have come to a hub.
    Mail(usize),
    /// Baskets have come to the pool actor.
    Pool,
    /// The supervisor is asked to look; its timer; a worker's thread is up, is woken, has run a call, has ended.
    Look,
    Again,
    Start(Seat),
    Bell(Seat),
    Done(Seat, u64),
    Ended(Seat),
    /// `shutdown_timeout` is over.
    Finish,
}

/// What a run was like.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) calls: u64,
    pub(super) begun: u64,
    pub(super) events: u64,
    pub(super) clients: u64,
    pub(super) ended_waiting: u64,
    pub(super) ended_running: u64,
    pub(super) returned: u64,
    pub(super) refused: u64,
    pub(super) virtual_time: Duration,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { calls, begun, events, clients, ended_waiting, ended_running, returned, refused, virtual_time } =
            self;
        write!(f, "{calls} calls of {clients} clients, {begun} begun, {ended_waiting} ended before that, ")?;
        write!(f, "{ended_running} later, {refused} refused, {returned} returned, {events} events, {virtual_time:.1?}")
    }
}

pub(super) struct World {
    shared: Rc<Shared>,
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    count: u64,
    hubs: Vec<Hub>,
    /// Each with its hub and its key there.
    remotes: Vec<(Remote, usize, ClientKey)>,
    /// Calls that clients were told to make.
    quota: u64,
    supervisor: Supervisor,
    /// For when the supervisor's timer is set.
    set: Option<Instant>,
    turns: Vec<bool>,
    mails: Vec<bool>,
    pool: bool,
    asks: usize,
    endings: Vec<Seat>,
    is_draining: bool,
    resized_at: u64,
}

impl World {
    pub(super) fn new(config: Config, seed: u64) -> Self {
        let now = Instant::now();
        let registry = Arc::new(Registry::new(vec![Config::program()], 0).unwrap());
        let hubs = Arc::new(Hubs::new(config.hubs, registry.procedures.len()));
        let limits = config.limits.clone();
        let handover = Handover::new(registry, hubs, &limits, now);
        let shared = Rc::new(Shared {
            limits: Rc::new(limits),
            handover,
            ledger: RefCell::new(Ledger::new(&config)),
            random: RefCell::new(Random::new(seed)),
            now: Cell::new(now),
            wakes: RefCell::default(),
            config,
        });
        let hubs: Vec<Hub> = (0..shared.config.hubs).map(|number| Hub::new(number, &shared)).collect();
        let count = hubs.len();
        let mut world = Self {
            shared: shared.clone(),
            events: BinaryHeap::new(),
            count: 0,
            hubs,
            remotes: Vec::new(),
            quota: 0,
            supervisor: Supervisor::default(),
            set: None,
            turns: vec![false; count],
            mails: vec![false; count],
            pool: false,
            asks: 0,
            endings: Vec::new(),
            is_draining: false,
            resized_at: 0,
        };
        let limits = &shared.limits;
        let fixed = |count: usize| (count, count);
        let ordinary = (limits.min_workers, limits.max_workers);
        world.supervisor.wanted = [ordinary, fixed(limits.prio_workers), fixed(limits.async_workers)];
        world.supervisor.look(&shared);
        (0..shared.config.clients).for_each(|_| world.connect());
        world.after();
        world
    }

    fn at(&mut self, time: Instant, event: Event) {
        // What should have happened already happens now: time does not run backwards.
        let time = time.max(self.shared.now.get());
        self.count += 1;
        // What happens at the same time happens in any order.
        let tie = self.shared.random.borrow_mut().next() << 40 | self.count;
        self.events.push(Reverse((time, tie, event)));
    }

    fn soon(&mut self, event: Event) {
        let time = self.shared.now.get() + soon(&mut self.shared.random.borrow_mut());
        self.at(time, event);
    }

    /// A thread is woken for it, which takes longer.
    fn thread(&mut self, event: Event) {
        let most = Duration::from_micros(50);
        let time = self.shared.now.get() + self.shared.random.borrow_mut().time(Duration::from_micros(1), most);
        self.at(time, event);
    }

    fn timer(&mut self, at: Instant, event: Event) {
        let late = self.shared.random.borrow_mut().time(Duration::ZERO, TICK);
        let time = at.max(self.shared.now.get()) + late;
        self.at(time, event);
    }

    fn connect(&mut self) {
        if self.quota >= self.shared.config.calls || self.is_draining {
            return;
        }
        let id = self.remotes.len() as u64;
        let hub = id as usize % self.hubs.len();
        let pipe = Rc::new(RefCell::new(Pipe::new(self.shared.config.socket)));
        let remote = Remote::new(id, self.shared.config.calls_each, pipe.clone(), &self.shared);
        self.quota += self.shared.config.calls_each;
        self.shared.ledger.borrow_mut().calls.push(Vec::new());
        let key = self.hubs[hub].welcome(id, pipe, &self.shared);
        self.remotes.push((remote, hub, key));
        self.shared.wakes.borrow_mut().push(Wake::Client(id));
    }

    fn client(&mut self, id: u64) {
        let (remote, hub, key) = &mut self.remotes[id as usize];
        let (hub, key) = (*hub, *key);
        remote.woken = false;
        remote.timer = remote.timer.filter(|timer| *timer > self.shared.now.get());
        let (had_ended, was_dead) = (remote.has_ended, remote.is_dead());
        let again = remote.act(&self.shared);
        let (has_ended, is_dead) = (remote.has_ended, remote.is_dead());
        self.after_client(id, hub, key);
        if is_dead && !was_dead {
            let seconds = self.shared.random.borrow_mut().between(20, 200);
            self.at(self.shared.now.get() + Duration::from_secs(seconds), Event::GiveUp(id));
        }
        if has_ended && !had_ended {
            self.connect();
        }
        if let Some(again) = again.filter(|_| !has_ended) {
            // Each client has one timer; stale ones find nothing to do.
            let timer = &mut self.remotes[id as usize].0.timer;
            if timer.is_none_or(|timer| again < timer) {
                *timer = Some(again);
                self.at(again, Event::Client(id));
            }
        }
    }

    /// The service's reactor hears of what a client did.
    fn after_client(&mut self, id: u64, hub: usize, key: ClientKey) {
        let pipe = &mut *self.remotes[id as usize].0.pipe.borrow_mut();
        let can_read = !pipe.to_service.is_empty() || pipe.client_ended || pipe.client_left;
        let can_write = pipe.to_client.room() > 0 || pipe.client_left;
        // A writer that waits to hear of the client's leaving had room all the time.
        let has_left = pipe.client_left;
        let news = pipe.writer_waits && can_write && (has_left || !self.is_watching(hub, key));
        if (pipe.reader_waits && can_read) || news {
            (pipe.reader_waits, pipe.writer_waits) = (pipe.reader_waits && !can_read, pipe.writer_waits && !news);
            self.shared.wakes.borrow_mut().push(Wake::Reader(hub, key));
        }
    }

    /// Whether a reader has nothing to write and only waits to hear that its client has left.
    fn is_watching(&self, hub: usize, key: ClientKey) -> bool {
        self.hubs[hub].clients.get(key).is_none_or(|connection| connection.borrow().client.output.is_empty())
    }

    fn step(&mut self, event: Event) {
        let shared = &self.shared.clone();
        let mut runs: Vec<Runs> = Vec::new();
        match event {
            Event::Client(id) => self.client(id),
            Event::GiveUp(id) => {
                let (remote, hub, key) = &mut self.remotes[id as usize];
                let (hub, key) = (*hub, *key);
                if !remote.has_ended {
                    remote.give_up();
                    self.after_client(id, hub, key);
                    self.connect();
                }
            }
            Event::Reader(hub, key) => self.hubs[hub].read(key, shared),
            Event::Turn(hub) => {
                self.turns[hub] = false;
                self.hubs[hub].turn(shared);
            }
            Event::Timer(hub, setting) => {
                if self.hubs[hub].goes_off(setting) {
                    self.hubs[hub].turn(shared);
                }
            }
            Event::Mail(hub) => {
                self.mails[hub] = false;
                for replies in shared.handover.hubs().take_delivered(hub) {
                    self.hubs[hub].deliver(replies, shared);
                }
            }
            Event::Pool => {
                self.pool = false;
                for basket in shared.handover.take_baskets() {
                    let jobs = basket.into_jobs();
                    for job in &jobs {
                        shared.ledger.borrow_mut().pending(job.ticket.client_id, job.ticket.serial);
                    }
                    shared.handover.take_in(jobs, End::Back, shared.now.get());
                }
            }
            Event::Look => match self.supervisor.last_look {
                Some(last) if shared.now.get() - last < MAX_WAIT / 2 => self.come_back(last + MAX_WAIT),
                _ => self.supervisor.look(shared),
            },
            Event::Again => {
                self.set = None;
                self.supervisor.look(shared);
            }
            Event::Start(seat) => self.supervisor.started(seat, shared, &mut runs),
            Event::Bell(seat) => {
                if let Some(worker) = self.supervisor.worker(seat) {
                    worker.poll(shared, &mut runs);
                }
            }
            Event::Done(seat, number) => {
                if let Some(worker) = self.supervisor.worker(seat) {
                    worker.done(number, shared, &mut runs);
                }
            }
            Event::Ended(seat) => {
                self.endings.retain(|ending| *ending != seat);
                self.supervisor.ended(seat, shared);
            }
            Event::Finish => self.hubs.iter_mut().for_each(|hub| hub.finish(shared)),
        }
        for Runs { seat, until, number } in runs {
            self.at(until, Event::Done(seat, number));
        }
    }

    fn come_back(&mut self, at: Instant) {
        if self.set.is_none_or(|set| at < set) {
            self.set = Some(at);
            self.timer(at, Event::Again);
        }
    }

    /// Has all those come to it who were woken in a step.
    fn after(&mut self) {
        let shared = &self.shared.clone();
        let wakes = std::mem::take(&mut *shared.wakes.borrow_mut());
        for wake in wakes {
            match wake {
                Wake::Client(id) => {
                    let remote = &mut self.remotes[id as usize].0;
                    if !remote.has_ended && !std::mem::replace(&mut remote.woken, true) {
                        self.soon(Event::Client(id));
                    }
                }
                Wake::Reader(hub, key) => {
                    let Some(connection) = self.hubs[hub].clients.get(key).cloned() else { continue };
                    if !std::mem::replace(&mut connection.borrow_mut().woken, true) {
                        self.soon(Event::Reader(hub, key));
                    }
                }
                Wake::Turn(hub) => {
                    if !std::mem::replace(&mut self.turns[hub], true) {
                        self.soon(Event::Turn(hub));
                    }
                }
            }
        }
        for hub in 0..self.hubs.len() {
            if !self.mails[hub] && shared.handover.hubs().has_delivered(hub) {
                self.mails[hub] = true;
                self.soon(Event::Mail(hub));
            }
            if let Some((timer, setting)) = self.hubs[hub].set_timer() {
                self.timer(timer, Event::Timer(hub, setting));
            }
        }
        if !self.pool && shared.handover.has_baskets() {
            self.pool = true;
            self.soon(Event::Pool);
        }
        if self.asks < shared.handover.asks() {
            self.asks = shared.handover.asks();
            self.soon(Event::Look);
        }
        if let Some(again) = self.supervisor.again.take() {
            self.come_back(again);
        }
        let rung = std::mem::take(&mut *self.supervisor.rung.lock().unwrap());
        rung.into_iter().for_each(|seat| self.thread(Event::Bell(seat)));
        for seat in std::mem::take(&mut self.supervisor.starting) {
            self.thread(Event::Start(seat));
        }
        let ended: Vec<Seat> = self.supervisor.endings().filter(|seat| !self.endings.contains(seat)).collect();
        for seat in ended {
            self.endings.push(seat);
            self.thread(Event::Ended(seat));
        }
        self.check();
        self.change();
    }

    /// What holds after each step.
    fn check(&mut self) {
        let [(waiting, idle), (first, priority)] = self.shared.handover.waiting_and_idle();
        assert!(waiting == 0 || idle == 0, "{waiting} calls wait while {idle} workers are idle");
        assert!(first == 0 || priority == 0, "{first} priority calls wait while {priority} workers are idle");
        self.shared.ledger.borrow_mut().idle([idle > 0, priority > 0], self.shared.now.get());
        let (calls, bytes) = self.shared.handover.gauge();
        let limits = &self.shared.limits;
        let longest = u64::from(limits.max_packet);
        assert!(calls <= limits.max_pending_calls as u64 && bytes < limits.max_pending_bytes + longest);
    }

    /// The service stops, or gets other numbers of workers.
    fn change(&mut self) {
        let shared = &self.shared.clone();
        let (config, accepted) = (&shared.config, shared.ledger.borrow().accepted);
        if !self.is_draining && config.drain_after > 0 && accepted >= config.drain_after {
            self.is_draining = true;
            self.hubs.iter_mut().for_each(|hub| hub.drain(shared));
            let time = shared.now.get() + shared.limits.shutdown_timeout;
            self.at(time, Event::Finish);
            self.after();
        }
        if config.resizes > 0 && accepted >= self.resized_at + config.resizes {
            self.resized_at = accepted;
            let random = &mut *shared.random.borrow_mut();
            let min = random.between(1, 4) as usize;
            let fixed = |count: u64| (count as usize, count as usize);
            let max = min + random.below(5) as usize;
            self.supervisor.wanted = [(min, max), fixed(random.below(3)), fixed(random.between(1, 3))];
            self.supervisor.again = Some(shared.now.get());
        }
    }

    pub(super) fn run(mut self) -> Summary {
        let start = self.shared.now.get();
        let mut events = 0;
        while let Some(Reverse((time, _, event))) = self.events.pop() {
            events += 1;
            let most = 200_000 + 100 * self.shared.config.calls;
            assert!(
                events < most,
                "it does not come to an end: {event:?}, {:?}",
                self.events.iter().take(20).collect::<Vec<_>>()
            );
            self.shared.now.set(time);
            self.step(event);
            self.after();
        }
        self.finish();
        let ledger = self.shared.ledger.borrow();
        Summary {
            calls: ledger.accepted,
            begun: ledger.begun,
            events,
            clients: self.remotes.len() as u64,
            ended_waiting: ledger.ended_waiting,
            ended_running: ledger.ended_running,
            returned: ledger.returned,
            refused: ledger.refused,
            virtual_time: self.shared.now.get() - start,
        }
    }

    /// Nothing is left when nothing happens any more.
    fn finish(&self) {
        let shared = &self.shared;
        for (remote, hub, key) in &self.remotes {
            let connection = self.hubs[*hub].clients.get(*key);
            assert!(remote.has_ended, "client {} is stuck: {remote:?}\n{connection:?}", remote.id);
            assert!(connection.is_none(), "the reader of client {} is stuck: {connection:?}", remote.id);
        }
        for hub in &self.hubs {
            assert_eq!(hub.core.calls.count().0, 0, "records are held");
        }
        assert_eq!(shared.handover.gauge(), (0, 0), "permits are held");
        for (kind, wanted) in self.supervisor.wanted.iter().enumerate() {
            assert_eq!(self.supervisor.seated[kind].len(), wanted.0, "workers of kind {kind}");
        }
        for &place in self.supervisor.seated[2].keys() {
            let free = shared.handover.async_place(place).free.load(std::sync::atomic::Ordering::SeqCst);
            assert_eq!(free, shared.limits.max_async_calls, "places of an async worker are held");
        }
        let left = |client: usize| self.remotes[client].0.has_left;
        shared.ledger.borrow().settle(left, self.is_draining);
    }
}
