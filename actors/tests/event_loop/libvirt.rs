//! The thirteen cases of libvirt's own test of its event loop, in its order: 31 pipes that are watched, 31 timers that
//! are disabled, a loop on a thread of its own, callbacks that check their own id, descriptor and event and read a byte.
//!
//! It runs 20 times, several at once, and as often as `POSTROOM_EVENTTEST_RUNS` says:
//! `POSTROOM_EVENTTEST_RUNS=1000 cargo test -p postroom-actors --test event_loop libvirts_own_cases`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postroom_actors::event_loop::{Events, HandleId, Interval, TimerId};

use crate::support::{Journal, Pipe, Running};

const N: usize = 31;
const SHORT: Interval = Interval::Every(Duration::from_millis(100));
const LONGER: Interval = Interval::Every(Duration::from_millis(130));

#[test]
fn libvirts_own_cases_in_its_order() {
    let n_runs = std::env::var("POSTROOM_EVENTTEST_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(20);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < n_runs {
                    Cases::new().run();
                }
            });
        }
    });
    println!("{n_runs} runs");
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fired {
    Handle(usize),
    Timer(usize),
}

/// What a callback removes when it is called.
#[derive(Clone, Copy)]
struct Removals {
    handle: Option<HandleId>,
    timer: Option<TimerId>,
}

struct Cases {
    running: Running,
    pipes: Vec<Arc<Pipe>>,
    handles: Vec<HandleId>,
    timers: Vec<TimerId>,
    removals: Vec<Arc<Mutex<Removals>>>,
    fired: Journal<Fired>,
}

impl Cases {
    fn new() -> Cases {
        let running = Running::new();
        let fired = Journal::new();
        let mut cases = Cases {
            running,
            pipes: (0..N).map(|_| Arc::new(Pipe::new())).collect(),
            handles: Vec::new(),
            timers: Vec::new(),
            removals: (0..N).map(|_| Arc::new(Mutex::new(Removals { handle: None, timer: None }))).collect(),
            fired,
        };
        for n in 0..N {
            let handle = cases.watch(n, Events::READABLE);
            cases.handles.push(handle);
        }
        for n in 0..N {
            let expected = Arc::new(Mutex::new(None));
            let (own, events, fired) = (expected.clone(), cases.running.events.clone(), cases.fired.clone());
            let removals = cases.removals[n].clone();
            let timer = cases.running.events.add_timeout(Interval::Disabled, move |event| {
                assert_eq!(Some(event.id), *own.lock().unwrap());
                if let Some(id) = removals.lock().unwrap().timer.take() {
                    events.remove_timeout(id).unwrap();
                }
                fired.push(Fired::Timer(n));
            });
            let timer = timer.unwrap();
            *expected.lock().unwrap() = Some(timer);
            cases.timers.push(timer);
        }
        cases
    }

    /// A watch whose callback checks that it is its own.
    fn watch(&self, n: usize, mask: Events) -> HandleId {
        let expected = Arc::new(Mutex::new(None));
        let (own, events, fired) = (expected.clone(), self.running.events.clone(), self.fired.clone());
        let (pipe, removals) = (self.pipes[n].clone(), self.removals[n].clone());
        let callback = move |event: postroom_actors::event_loop::HandleEvent| {
            assert_eq!(Some(event.id), *own.lock().unwrap());
            assert_eq!((event.fd, event.events), (pipe.fd(), Events::READABLE));
            pipe.get();
            if let Some(id) = removals.lock().unwrap().handle.take() {
                events.remove_handle(id).unwrap();
            }
            fired.push(Fired::Handle(n));
        };
        // Held until the id is known, because the watch may be ready at once.
        let mut known = expected.lock().unwrap();
        let id = self.running.events.add_handle(self.pipes[n].fd(), mask, callback).unwrap();
        *known = Some(id);
        id
    }

    /// Waits for what has to fire, and makes sure that nothing else does.
    fn verify(&self, case: &str, expected: &[Fired]) {
        self.fired.wait(expected.len());
        self.running.turn_around();
        assert_eq!(self.fired.take(), expected, "{case}");
    }

    /// Waits until a timer that was armed before this one would have fired.
    fn outwait_timers(&self) {
        let done = Journal::new();
        let timer = self.running.events.add_timeout(LONGER, done.on_timer(())).unwrap();
        done.wait(1);
        self.running.events.remove_timeout(timer).unwrap();
    }

    fn set_removal(&self, n: usize, handle: Option<HandleId>, timer: Option<TimerId>) {
        *self.removals[n].lock().unwrap() = Removals { handle, timer };
    }

    fn run(&self) {
        let Cases { running, pipes, handles, timers, .. } = self;
        let events = &running.events;

        pipes[1].put();
        self.verify("1: simple write", &[Fired::Handle(1)]);

        events.remove_handle(handles[0]).unwrap();
        pipes[1].put();
        self.verify("2: handle deleted before poll", &[Fired::Handle(1)]);

        events.remove_handle(handles[1]).unwrap();
        self.verify("3: handle deleted during poll", &[]);

        self.set_removal(2, Some(handles[3]), None);
        // Both bytes have to be there in one iteration, so the loop is held meanwhile.
        self.hold_while(|| {
            pipes[2].put();
            pipes[3].put();
        });
        self.verify("4: handle deleted during dispatch", &[Fired::Handle(2)]);

        self.set_removal(2, Some(handles[2]), None);
        pipes[2].put();
        self.verify("5: handle deletes itself", &[Fired::Handle(2)]);

        events.update_timeout(timers[1], SHORT).unwrap();
        self.verify_timer("6: firing a timer", 1);

        events.update_timeout(timers[1], SHORT).unwrap();
        events.remove_timeout(timers[0]).unwrap();
        self.verify_timer("7: timer deleted before poll", 1);

        events.update_timeout(timers[1], SHORT).unwrap();
        events.remove_timeout(timers[1]).unwrap();
        self.outwait_timers();
        self.verify("8: timer deleted during poll", &[]);

        self.set_removal(2, None, Some(timers[3]));
        self.hold_while(|| {
            events.update_timeout(timers[2], SHORT).unwrap();
            events.update_timeout(timers[3], SHORT).unwrap();
        });
        self.verify_timer("9: timer deleted during dispatch", 2);

        self.set_removal(2, None, Some(timers[2]));
        events.update_timeout(timers[2], SHORT).unwrap();
        self.outwait_timers();
        self.verify("10: timer deletes itself", &[Fired::Timer(2)]);

        for n in 0..N - 1 {
            // Some have gone, and removing them again is refused and does no harm.
            assert_eq!(events.remove_handle(handles[n]).is_ok(), n > 3, "11: removing handle {n}");
            assert_eq!(events.remove_timeout(timers[n]).is_ok(), n > 3, "11: removing timer {n}");
        }
        self.verify("11: removing everything", &[]);

        for _ in 0..4 {
            pipes[N - 1].put();
            self.verify("12: simple write, four times", &[Fired::Handle(N - 1)]);
        }

        events.remove_handle(handles[N - 1]).unwrap();
        let told = Journal::new();
        events.add_handle(pipes[0].fd(), Events::NONE, told.on_handle(())).unwrap();
        self.watch(0, Events::READABLE);
        pipes[0].put();
        self.verify("13: the same descriptor twice", &[Fired::Handle(0)]);
        assert_eq!(told.len(), 0, "13: a watch with an empty mask");
    }

    /// Waits for a timer, and stops it: before it fires again, unless the machine stands still.
    fn verify_timer(&self, case: &str, n: usize) {
        self.fired.wait(1);
        self.running.events.update_timeout(self.timers[n], Interval::Disabled).unwrap();
        self.running.turn_around();
        let mut fired = self.fired.take();
        fired.dedup();
        assert_eq!(fired, [Fired::Timer(n)], "{case}");
    }

    /// Does something while the loop is inside a callback.
    fn hold_while(&self, action: impl FnOnce()) {
        let (entered, release) = (Journal::new(), Journal::new());
        let (inside, go, events) = (entered.clone(), release.clone(), self.running.events.clone());
        let hold = move |event: postroom_actors::event_loop::TimerEvent| {
            events.remove_timeout(event.id).unwrap();
            inside.push(());
            go.wait(1);
        };
        self.running.events.add_timeout(Interval::EveryIteration, hold).unwrap();
        entered.wait(1);
        action();
        release.push(());
    }
}
