//! The examples, each run as its reader would run it. `cargo test` has built them.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rmpv::Value;
use rustix::net::{AddressFamily, SocketType};

use crate::support::*;

const STOCK: u32 = 0x7374_6f63;

/// The binary of an example.
fn command(name: &str) -> Command {
    // Examples lie beside the folder of the tests.
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(
        path.exists(),
        "{} is missing: `cargo build --examples` makes it, and so does `cargo test`",
        path.display()
    );
    let mut command = Command::new(path);
    command.env_remove("POSTROOM_LOG").env_remove("POSTROOM_ADDRESS");
    command
}

/// An example as a process, listening in a folder of its own.
pub fn example(name: &str) -> Binary {
    example_with(name, &[])
}

/// The same, with more arguments.
pub fn example_with(name: &str, arguments: &[&str]) -> Binary {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(name);
    command.args(arguments).arg("--listen").arg(format!("unix:{}", folder.path().join("socket").display()));
    Binary::spawn(command, folder)
}

pub fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

#[test]
fn the_smallest_service_has_at_most_25_lines() {
    let lines = std::fs::read_to_string(source("smallest.rs")).unwrap().lines().count();
    assert!(lines <= 25, "{lines} lines");
}

#[test]
fn the_smallest_service_serves() {
    let mut service = example("smallest");
    let mut client = service.client();
    let doubled = client.call(0x6475_626c, 1, &map([("value", 21.into())]));
    assert_eq!(doubled, Value::Map(vec![("value".into(), 42.into())]));
    let error = client.call_error(0x6475_626c, 1, &map([("value", i64::MAX.into())]));
    assert_eq!(error.code(), "failed");
    let hello = client.call(DIRECTORY, 1, &map([("client", "tests".into()), ("version", "1".into())]));
    assert_eq!(hello["service"], Value::from("smallest"));
    service.signal(rustix::process::Signal::TERM);
    assert_eq!(service.exit_code(), Some(0));
}

#[test]
fn the_stateful_service_shares_its_stock_and_keeps_its_versions_apart() {
    let service = example("stateful");
    let mut client = service.client();
    let bolts = |count: u64| map([("item", "bolt".into()), ("count", count.into())]);
    let mut version = |version: u32, procedure: i32, payload: &[u8]| {
        client.send(&packet(header(STOCK, version, procedure, 1), payload));
        client.packet()
    };
    assert_eq!(version(2, 1, &bolts(3)).value()["count"], Value::from(3));
    let error = version(2, 2, &bolts(5)).error();
    assert_eq!(error.code(), "too_few");
    assert_eq!(error.details(), Some(&Value::Map(vec![("there".into(), 3.into())])));
    let bolt = map([("item", "bolt".into())]);
    assert_eq!(version(1, 2, &bolt).value()["count"], Value::from(2));
    assert_eq!(version(2, 3, &bolt).value()["count"], Value::from(2));
    assert_eq!(version(1, 3, &bolt).error().code(), "unknown_procedure");
    assert_eq!(version(2, 1, &bolts(u64::MAX)).error().code(), "no_room");
}

#[test]
fn the_stateful_service_waits_without_holding_anybody_up() {
    let service = example("stateful");
    let mut waiting = service.client();
    let wait = |ms: u64| map([("item", "nut".into()), ("count", 2.into()), ("ms", ms.into())]);
    for serial in 0..50 {
        waiting.send(&packet(header(STOCK, 2, 4, serial), &wait(60_000)));
    }
    let mut client = service.client();
    for count in 1..=2_u64 {
        let put = packet(header(STOCK, 2, 1, 1), &map([("item", "nut".into()), ("count", 1.into())]));
        client.send(&put);
        assert_eq!(client.reply(1)["count"], Value::from(count));
    }
    for _ in 0..50 {
        assert_eq!(waiting.packet().value()["count"], Value::from(2));
    }
    let screws = map([("item", "screw".into()), ("count", 1.into()), ("ms", 1.into())]);
    client.send(&packet(header(STOCK, 2, 4, 9), &screws));
    assert_eq!(client.error(9).code(), "too_few");
}

/// Runs an example to its end; what it printed.
fn run(name: &str, arguments: &[&str]) -> String {
    let done = command(name).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{name} {arguments:?} ended with {}: {errors}", done.status);
    String::from_utf8(done.stdout).unwrap()
}

/// A process that does not outlive its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn clients_find_a_service_where_the_command_line_does() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = folder.path().to_owned();
    let mut serve = Binary::command();
    serve.env("XDG_RUNTIME_DIR", &runtime);
    let _service = Binary::spawn(serve, folder);
    for name in ["async_client", "blocking_client"] {
        let done = command(name).env("XDG_RUNTIME_DIR", &runtime).output().unwrap();
        assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

#[test]
fn clients_without_a_service_say_so_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", folder.path().join("socket").display());
    for name in ["async_client", "blocking_client", "embedded", "thermometer"] {
        let done = command(name).arg(&address).output().unwrap();
        let errors = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{name}: {errors}");
        assert!(errors.starts_with(&format!("Error: no connection to {address}: ")), "{name}: {errors}");
        assert!(errors.contains("is the service running"), "{name}: {errors}");
    }
}

#[test]
fn the_async_client_has_its_calls_answered_and_its_deadline_kept() {
    let service = Binary::serve("");
    let output = run("async_client", &[&service.address().to_string()]);
    let lines: Vec<&str> = output.lines().collect();
    assert!(lines[0].starts_with("connected to postroom"), "{output}");
    assert_eq!(lines[1], "100 calls answered");
    assert!(lines[2].starts_with("too late, as expected: "), "{output}");
}

#[test]
fn the_blocking_client_calls_from_several_threads() {
    let service = Binary::serve("");
    let output = run("blocking_client", &[&service.address().to_string()]);
    let one = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed  one";
    assert_eq!(output.lines().next(), Some(one), "{output}");
    assert_eq!(output.lines().count(), 3, "{output}");
}

#[test]
fn the_embedded_service_is_moved_out_by_changing_its_address() {
    assert_eq!(run("embedded", &[]), "hello world, you came by local\n");
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", folder.path().join("socket").display());
    let mut service = Process(command("embedded").args(["serve", &address]).spawn().unwrap());
    eventually("the service listens", || UnixStream::connect(folder.path().join("socket")).is_ok());
    assert_eq!(run("embedded", &[&address]), "hello world, you came by unix\n");
    let pid = rustix::process::Pid::from_child(&service.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(service.0.wait().unwrap().success());
}

#[test]
fn the_thermometer_is_read_by_whoever_subscribed() {
    let check = |output: &str| {
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines.len(), 3, "{output}");
        assert!(lines.iter().all(|line| line.starts_with("reading ") && line.ends_with("(0 missed)")), "{output}");
    };
    check(&run("thermometer", &[]));
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", folder.path().join("socket").display());
    let _service = Process(command("thermometer").args(["serve", &address]).spawn().unwrap());
    eventually("the service listens", || UnixStream::connect(folder.path().join("socket")).is_ok());
    check(&run("thermometer", &[&address]));
    let watch = ["watch", "--to", &address, "--count", "2", "thermometer.reading"];
    let watched = Binary::command().args(watch).output().unwrap();
    assert_eq!(String::from_utf8(watched.stdout).unwrap().matches("\"celsius\":").count(), 2);
}

#[test]
fn the_async_handler_answers_whether_somebody_listens() {
    let service = example("async_handler");
    // Bound first, so that nobody else is given the port while nobody listens there.
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    let bound = SocketAddrV4::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap();
    let port = u64::from(bound.port());
    let mut client = service.client();
    let mut is_open = || {
        let args = map([("host", "127.0.0.1".into()), ("port", port.into())]);
        client.call(0x7072_6f62, 1, &args)["is_open"].as_bool().unwrap()
    };
    assert!(!is_open());
    rustix::net::listen(&socket, 1).unwrap();
    assert!(is_open());
}

#[test]
fn the_blocking_handler_counts_lines_and_says_which_file_is_not_there() {
    let service = example("blocking_handler");
    let mut client = service.client();
    let path = |path: PathBuf| map([("path", path.to_str().unwrap().into())]);
    let expected = std::fs::read_to_string(source("smallest.rs")).unwrap().lines().count() as u64;
    assert_eq!(client.call(0x6669_6c65, 1, &path(source("smallest.rs")))["lines"], Value::from(expected));
    let error = client.call_error(0x6669_6c65, 1, &path(source("nothing.rs")));
    assert_eq!(error.code(), "no_such_file");
}
