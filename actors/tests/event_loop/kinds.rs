//! Every kind of descriptor that people watch: it becomes readable, is drained, and is quiet.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use postroom_actors::event_loop::{EventLoop, Events};
use rustix::event::{EventfdFlags, eventfd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::support::{Journal, NOW, Pipe, iterate_until};

/// Watches `fd`, which is quiet until `fill` and again after `drain`.
fn becomes_readable(fd: &impl AsRawFd, fill: impl FnOnce(), drain: impl FnOnce()) {
    let (events, mut driver) = EventLoop::new().unwrap();
    let told = Journal::new();
    let journal = told.clone();
    events.add_handle(fd.as_raw_fd(), Events::READABLE, move |event| journal.push((event.fd, event.events))).unwrap();
    assert_eq!(driver.iterate(NOW).unwrap(), 0, "ready before it was filled");
    fill();
    iterate_until(&mut driver, || told.len() > 0);
    assert_eq!(told.take()[0], (fd.as_raw_fd(), Events::READABLE));
    drain();
    assert_eq!(driver.iterate(NOW).unwrap(), 0, "ready after it was drained");
}

fn read(mut from: impl Read) {
    assert!(from.read(&mut [0; 64]).unwrap() > 0);
}

fn done<E: std::fmt::Debug>(result: Result<usize, E>) {
    assert!(result.unwrap() > 0);
}

#[test]
fn pipes() {
    let pipe = Pipe::new();
    becomes_readable(&pipe.reader, || pipe.put(), || pipe.get());
}

#[test]
fn unix_sockets() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    becomes_readable(&ours, || (&theirs).write_all(b"x").unwrap(), || read(&ours));
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    becomes_readable(&ours, || done(theirs.send(b"x")), || done(ours.recv(&mut [0])));
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
    let connect = || drop(UnixStream::connect(dir.path().join("socket")).unwrap());
    becomes_readable(&listener, connect, || drop(listener.accept().unwrap()));
}

#[test]
fn tcp_sockets() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut theirs = None;
    let mut ours = None;
    let connect = || theirs = Some(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    becomes_readable(&listener, connect, || ours = Some(listener.accept().unwrap().0));
    let (ours, mut theirs) = (ours.unwrap(), theirs.unwrap());
    becomes_readable(&ours, || theirs.write_all(b"x").unwrap(), || read(&ours));
}

#[test]
fn eventfds() {
    let fd: OwnedFd = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
    let fill = || done(rustix::io::write(&fd, &7_u64.to_ne_bytes()));
    becomes_readable(&fd, fill, || done(rustix::io::read(&fd, &mut [0; 8])));
}

#[test]
fn timerfds() {
    let fd: OwnedFd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK).unwrap();
    let once = Itimerspec {
        it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: Timespec { tv_sec: 0, tv_nsec: 1_000_000 },
    };
    let fill = || assert!(timerfd_settime(&fd, TimerfdTimerFlags::empty(), &once).is_ok());
    becomes_readable(&fd, fill, || done(rustix::io::read(&fd, &mut [0; 8])));
}

#[test]
fn ttys() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let terminal = File::options().read(true).write(true).open(path).unwrap();
    let master = File::from(master);
    // A terminal hands on whole lines, and echoes them.
    becomes_readable(&terminal, || (&master).write_all(b"line\n").unwrap(), || read(&terminal));
    read(&master);
    becomes_readable(&master, || (&terminal).write_all(b"x").unwrap(), || read(&master));
}

#[test]
fn another_event_loops_set() {
    let pipe = Pipe::new();
    let set = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap();
    let data = rustix::event::epoll::EventData::new_u64(0);
    rustix::event::epoll::add(&set, &pipe.reader, data, rustix::event::epoll::EventFlags::IN).unwrap();
    becomes_readable(&set, || pipe.put(), || pipe.get());
}

#[test]
fn a_socket_becomes_writable_when_there_is_room() {
    let (events, mut driver) = EventLoop::new().unwrap();
    let told = Journal::new();
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    while (&ours).write(&[0; 4096]).is_ok() {}
    events.add_handle(ours.as_raw_fd(), Events::WRITABLE, told.on_handle(())).unwrap();
    assert_eq!(driver.iterate(NOW).unwrap(), 0);
    while (&theirs).read(&mut [0; 65536]).is_ok() {}
    assert_eq!(driver.iterate(NOW).unwrap(), 1);
}
