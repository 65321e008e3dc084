//! Where a service listens, what it does with what it finds there, and what it leaves behind.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use postroom::{Address, Config, Running, Service, StartError};

use crate::support::*;

fn at(path: &Path) -> Config {
    Config { listen: vec![Address::Unix(path.to_owned())], ..Config::default() }
}

fn start(config: Config) -> Result<Running, StartError> {
    Service::new(config).start()
}

fn has_ipv6() -> bool {
    std::net::TcpListener::bind("[::1]:0").is_ok()
}

/// What lies in a folder, by name.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_service_listens_at_several_addresses_at_once() {
    let name = format!("unix:@postroom-listening-{}", std::process::id());
    let service = TestService::with_tcp(|config| {
        config.listen.push(name.parse().unwrap());
        if has_ipv6() {
            config.listen.push("tcp:[::1]:0".parse().unwrap());
        }
    });
    let addresses = service.running().addresses();
    assert_eq!(addresses.len(), if has_ipv6() { 4 } else { 3 });
    for address in addresses {
        if let Address::Tcp { port, .. } = address {
            assert_ne!(*port, 0);
        }
        Client::connect(address).is_usable();
    }
}

#[test]
fn a_stale_socket_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    // Nobody listens any more, and the file is still there.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let running = start(at(&path)).unwrap();
    Client::connect(&running.addresses()[0]).is_usable();
}

#[test]
fn a_live_socket_is_an_error_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let error = start(at(&path)).unwrap_err();
    assert!(matches!(error, StartError::Bind(_)), "{error}");
    assert!(error.to_string().contains("socket"), "{error}");
    assert!(path.exists());
    // It was asked whether somebody listens; others still reach it.
    drop(listener);
    drop(start(at(&path)).unwrap());
}

#[test]
fn two_services_cannot_have_one_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let first = start(at(&path)).unwrap();
    for _ in 0..3 {
        start(at(&path)).unwrap_err();
    }
    Client::connect(&first.addresses()[0]).is_usable();
    assert!(first.stop().is_clean());
    drop(start(at(&path)).unwrap());
}

#[test]
fn of_services_that_start_at_once_on_a_stale_socket_one_gets_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    for _ in 0..5 {
        drop(UnixListener::bind(&path).unwrap());
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || start(at(&path)))
            })
            .collect();
        let mut running: Vec<Running> = threads.into_iter().filter_map(|thread| thread.join().unwrap().ok()).collect();
        assert_eq!(running.len(), 1);
        let running = running.remove(0);
        Client::connect(&running.addresses()[0]).is_usable();
        drop(running);
        assert_eq!(names(folder.path()), [""; 0]);
    }
}

#[test]
fn something_that_is_no_socket_is_an_error_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for path in [&file, &link, &folder.path().join("missing/socket")] {
        assert!(start(at(path)).is_err(), "{}", path.display());
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    assert_eq!(names(folder.path()), ["file", "link"]);
}

#[test]
fn a_path_that_is_too_long_is_an_error_that_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    start(at(&folder.path().join("x".repeat(150)))).unwrap_err();
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn when_one_of_several_addresses_fails_nothing_is_left_of_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = at(&folder.path().join("socket"));
    config.listen.push(format!("tcp:{}", taken.local_addr().unwrap()).parse().unwrap());
    let error = start(config).unwrap_err();
    assert!(error.to_string().contains(&taken.local_addr().unwrap().port().to_string()), "{error}");
    assert_eq!(names(folder.path()), [""; 0]);
    let name: Address = format!("unix:@postroom-taken-{}", std::process::id()).parse().unwrap();
    let config = Config { listen: vec![name], ..Config::default() };
    let first = start(config.clone()).unwrap();
    start(config.clone()).unwrap_err();
    drop(first);
    drop(start(config).unwrap());
}

#[test]
fn the_socket_file_has_the_mode_and_group_that_were_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let gid = rustix::process::getgid().as_raw();
    for (mode, group) in [(0o700, None), (0o770, Some(gid.to_string())), (0o666, Some(gid.to_string()))] {
        let path = folder.path().join("socket");
        let config = Config { unix_sock_perms: mode, unix_sock_group: group, ..at(&path) };
        let _running = start(config).unwrap();
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o777, mode);
        assert_eq!(metadata.gid(), gid);
    }
    let path = folder.path().join("socket");
    let config = Config { unix_sock_group: Some("no-such-group".to_owned()), ..at(&path) };
    let error = start(config).unwrap_err();
    assert!(error.to_string().contains("no-such-group"), "{error}");
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn the_socket_and_its_lock_are_gone_when_the_service_has_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let running = start(at(&path)).unwrap();
    assert_eq!(names(folder.path()), ["socket", "socket.lock"]);
    // Whoever may open the lock may hold it.
    assert_eq!(folder.path().join("socket.lock").metadata().unwrap().mode() & 0o777, 0o600);
    assert!(running.stop().is_clean());
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn newcomers_beyond_max_queued_clients_wait_at_the_kernel_and_all_are_served_in_the_end() {
    let service = Binary::serve("max_queued_clients = 4\n");
    service.client().is_usable();
    service.signal(rustix::process::Signal::STOP);
    eventually("it has stopped", || service.usage().is_stopped());
    let address = rustix::net::SocketAddrUnix::new(service.path()).unwrap();
    let mut queued = Vec::new();
    let refused = loop {
        let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
        let family = rustix::net::AddressFamily::UNIX;
        let socket = rustix::net::socket_with(family, rustix::net::SocketType::STREAM, flags, None).unwrap();
        match rustix::net::connect(&socket, &address) {
            Ok(()) => queued.push(socket),
            Err(error) => break error,
        }
        assert!(queued.len() < 50, "there is no bound");
    };
    // Linux takes one more than it is told. Who does not ask without waiting waits here.
    assert_eq!((refused, queued.len()), (rustix::io::Errno::AGAIN, 5));
    let path = service.path().to_owned();
    let waits = std::thread::spawn(move || Client::connect(&Address::Unix(path)).is_usable());
    service.signal(rustix::process::Signal::CONT);
    waits.join().unwrap();
    for socket in queued {
        rustix::io::ioctl_fionbio(&socket, false).unwrap();
        Client::of(socket).is_usable();
    }
}

#[test]
fn a_service_that_is_dropped_answers_what_it_has_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(at(&folder.path().join("socket"))).unwrap();
    let mut client = Client::connect(&running.addresses()[0]);
    client.send(&call(ECHO, echo::BLOCK, 1, &map([("ms", 200.into())])));
    // It may be over by now, where the machine stood still.
    let is_accepted = || running.stats().procedures.iter().any(|procedure| procedure.accepted == 1);
    eventually("the call is accepted", is_accepted);
    drop(running);
    client.reply(1);
    assert_eq!(client.announcement().code(), "shutting_down");
}

#[test]
fn a_socket_that_somebody_put_in_the_place_of_ours_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let running = start(at(&path)).unwrap();
    std::fs::remove_file(&path).unwrap();
    // Kept open under another name, so that the number of its file is not given away.
    let _other = UnixListener::bind(&path).unwrap();
    drop(running);
    assert!(path.exists());
}

#[test]
fn programs_that_contradict_each_other_are_an_error_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let twice = || postroom::Program::new("echo", ECHO, 1);
    let error = Service::new(at(&folder.path().join("socket"))).program(twice()).start().unwrap_err();
    assert!(matches!(error, StartError::Programs(_)), "{error}");
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn two_services_live_in_one_process_without_knowing_of_each_other() {
    let first = TestService::start();
    let second = TestService::start();
    let mut at_first = first.client();
    at_first.call(TEST, proc::COUNT_INLINE, &[]);
    second.client().is_usable();
    drop(first);
    assert_eq!(at_first.announcement().code(), "shutting_down");
    second.client().is_usable();
}

#[test]
fn a_service_that_stops_tells_its_clients_and_answers_what_it_accepted() {
    let service = TestService::with_tcp(|_| {});
    let mut idle = [service.client(), service.tcp_client()];
    idle.iter_mut().for_each(Client::is_usable);
    let mut busy = service.client();
    busy.send(&call(TEST, proc::GATE, 7, &map([("door", 1.into())])));
    service.gate().wait_for(1);
    let path = service.folder().join("socket");
    service.running().stopper().stop();
    for client in &mut idle {
        let error = client.announcement();
        assert_eq!(error.code(), "shutting_down");
        assert!(error.retryable());
    }
    eventually("the socket is gone", || !path.exists());
    service.gate().open_all();
    busy.reply(7);
    assert_eq!(busy.announcement().code(), "shutting_down");
    assert!(service.stop().is_clean());
}

#[test]
fn a_handler_that_does_not_return_is_cut_and_its_thread_is_named() {
    let service = TestService::with(|config| {
        config.limits.min_workers = 1;
        config.limits.shutdown_timeout = std::time::Duration::from_millis(100);
    });
    let gate = service.gate().clone();
    let mut client = service.client();
    client.send(&call(TEST, proc::GATE, 1, &map([("door", 1.into())])));
    gate.wait_for(1);
    let stopping = std::thread::spawn(move || service.stop());
    assert_eq!(client.error(1).code(), "shutting_down");
    assert_eq!(client.announcement().code(), "shutting_down");
    drop(client);
    let report = stopping.join().unwrap();
    assert_eq!((report.cut_calls, report.cut_clients), (1, 0));
    assert_eq!(report.abandoned_threads, ["worker 0"]);
    gate.open_all();
}

/// Does nothing unless it runs in a process of its own; see the next test.
#[test]
fn child_that_starts_and_stops_a_service_twenty_times() {
    if std::env::var_os("POSTROOM_TEST_CHILD").is_none() {
        return;
    }
    let cycle = || {
        let service = TestService::with_tcp(|_| {});
        let mut clients = [service.client(), service.tcp_client()];
        for client in &mut clients {
            for procedure in [proc::COUNT, proc::COUNT_INLINE, proc::COUNT_ASYNC] {
                client.call(TEST, procedure, &[]);
            }
        }
        // Half of the clients leave before the service stops.
        let [first, mut second] = clients;
        drop(first);
        let stopping = std::thread::spawn(move || service.stop());
        assert_eq!(second.announcement().code(), "shutting_down");
        drop(second);
        assert!(stopping.join().unwrap().is_clean());
    };
    // What is made once and kept is there after the first.
    cycle();
    let usage = Usage(0);
    // This one, and the test's own.
    eventually("the threads of the first are gone", || usage.threads() == 2);
    let before = (usage.threads(), usage.descriptors());
    let resident = usage.resident_kib();
    for _ in 0..20 {
        cycle();
        // A thread that is joined is in the kernel's list for a moment longer.
        eventually("no thread is left", || usage.threads() == before.0);
        assert_eq!(usage.descriptors(), before.1);
    }
    let grown = usage.resident_kib().saturating_sub(resident);
    println!("20 services: {grown} KiB");
    assert!(grown < 8 * 1024, "{grown} KiB");
}

#[test]
fn a_service_started_and_stopped_twenty_times_leaves_no_thread_and_no_descriptor() {
    own_binary_as_child("listening::child_that_starts_and_stops_a_service_twenty_times");
}
