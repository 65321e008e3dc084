//! A loop as one writes it around epoll for a single purpose: watches in a vector, one entry per descriptor in the set.

use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use super::{Pipe, Subject, lateness};

const TIMER: u64 = u64::MAX;

pub struct Bare {
    set: OwnedFd,
    timer: OwnedFd,
    reported: Vec<Event>,
    /// By descriptor: the ids of its watches.
    by_fd: Vec<Vec<u64>>,
    watches: Vec<Option<Watch>>,
    ticks: Vec<Instant>,
}

struct Watch {
    fd: RawFd,
    flags: EventFlags,
    call: Box<dyn FnMut(EventFlags)>,
}

impl Bare {
    pub fn new() -> Bare {
        let set = epoll::create(CreateFlags::CLOEXEC).unwrap();
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK).unwrap();
        epoll::add(&set, &timer, EventData::new_u64(TIMER), EventFlags::IN).unwrap();
        let reported = Vec::with_capacity(1024);
        Bare { set, timer, reported, by_fd: Vec::new(), watches: Vec::new(), ticks: Vec::new() }
    }

    fn add(&mut self, fd: RawFd, call: Box<dyn FnMut(EventFlags)>) -> u64 {
        let id = self.watches.len() as u64;
        self.watches.push(Some(Watch { fd, flags: EventFlags::IN, call }));
        if self.by_fd.len() <= fd as usize {
            self.by_fd.resize(fd as usize + 1, Vec::new());
        }
        self.by_fd[fd as usize].push(id);
        self.sync(fd, self.by_fd[fd as usize].len() == 1);
        id
    }

    /// Tells the kernel the joined mask.
    fn sync(&self, fd: RawFd, is_new: bool) {
        let ids = &self.by_fd[fd as usize];
        // SAFETY: the benchmark keeps its descriptors open.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        let watches = ids.iter().filter_map(|id| self.watches[*id as usize].as_ref());
        let joined = watches.fold(EventFlags::empty(), |joined, watch| joined | watch.flags);
        let data = EventData::new_u64(fd as u64);
        match (is_new, ids.is_empty()) {
            (true, _) => epoll::add(&self.set, borrowed, data, joined).unwrap(),
            (false, true) => epoll::delete(&self.set, borrowed).unwrap(),
            (false, false) => epoll::modify(&self.set, borrowed, data, joined).unwrap(),
        }
    }

    fn set_timer(&self, period: Duration) {
        let value = Timespec::try_from(period).unwrap();
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once).unwrap();
    }
}

impl Subject for Bare {
    fn name(&self) -> &'static str {
        "bare epoll"
    }

    fn add_handle(&mut self, fd: RawFd, count: &Arc<AtomicU64>) -> u64 {
        let count = count.clone();
        let call = move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        };
        self.add(fd, Box::new(call))
    }

    fn add_pipe(&mut self, pipe: &Arc<Pipe>) -> u64 {
        let (fd, pipe) = (pipe.fd(), pipe.clone());
        self.add(fd, Box::new(move |_| pipe.turn()))
    }

    fn update_handle(&mut self, id: u64) {
        let watch = self.watches[id as usize].as_mut().unwrap();
        watch.flags = EventFlags::OUT;
        let fd = watch.fd;
        self.sync(fd, false);
    }

    fn remove_handle(&mut self, id: u64) {
        let fd = self.watches[id as usize].take().unwrap().fd;
        self.by_fd[fd as usize].retain(|other| *other != id);
        self.sync(fd, false);
    }

    fn iterate(&mut self) {
        self.reported.clear();
        epoll::wait(&self.set, rustix::buffer::spare_capacity(&mut self.reported), None).unwrap();
        for event in &self.reported {
            if event.data.u64() == TIMER {
                let _ = rustix::io::read(&self.timer, &mut [0; 8]);
                self.ticks.push(Instant::now());
                continue;
            }
            let flags = event.flags;
            for id in &self.by_fd[event.data.u64() as usize] {
                if let Some(watch) = &mut self.watches[*id as usize]
                    && flags.intersects(watch.flags)
                {
                    (watch.call)(flags);
                }
            }
        }
    }

    fn ticks(&mut self, period: Duration, n_ticks: usize) -> Vec<f64> {
        self.ticks = vec![Instant::now()];
        while self.ticks.len() <= n_ticks {
            let n_before = self.ticks.len();
            self.set_timer(period);
            while self.ticks.len() == n_before {
                self.iterate();
            }
        }
        lateness(&self.ticks, period)
    }
}
