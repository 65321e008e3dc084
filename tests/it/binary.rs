//! The binary as a process: arguments, environment, configuration, signals, exit status, log.

use std::path::Path;
use std::process::{Command, Output};

use postroom::Address;
use rustix::process::Signal;

use crate::support::*;

/// Runs a command that ends by itself.
fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn block(serial: u32, ms: u64) -> Vec<u8> {
    call(ECHO, echo::BLOCK, serial, &map([("ms", ms.into())]))
}

#[test]
fn serve_says_where_it_listens_and_serves_there() {
    let service = Binary::serve_with("", &["--listen", "tcp:127.0.0.1:0", "--listen", "tcp:127.0.0.1:0"]);
    eventually("both addresses are told", || service.addresses().len() == 2);
    for address in service.addresses() {
        assert!(matches!(&address, Address::Tcp { port, .. } if *port != 0), "{address}");
        Client::connect(&address).is_usable();
    }
}

#[test]
fn without_a_command_it_serves() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Binary::command();
    command.arg("--listen").arg(format!("unix:{}", folder.path().join("socket").display()));
    Binary::spawn(command, folder).client().is_usable();
}

#[test]
fn the_default_address_lies_below_xdg_runtime_dir_in_a_folder_of_the_users_own() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let expected = folder.path().join("postroom/postroom.sock");
    let mut command = Binary::command();
    command.env("XDG_RUNTIME_DIR", folder.path());
    let service = Binary::spawn(command, folder);
    assert_eq!(service.path(), expected);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(expected.parent().unwrap()), 0o700);
    assert_eq!(mode(&expected), 0o700);
    service.client().is_usable();
}

#[test]
fn whom_the_default_socket_lets_in_its_folder_lets_through() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let serve = |runtime: &Path, perms: &str| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("postroom.toml");
        std::fs::write(&file, format!("unix_sock_perms = \"{perms}\"\n")).unwrap();
        // Whatever the umask says.
        let mut command = Command::new("sh");
        command.args(["-c", "umask 077; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_postroom"), "--config"]).arg(file);
        command.env_remove("POSTROOM_ADDRESS").env_remove("POSTROOM_LOG").env("XDG_RUNTIME_DIR", runtime);
        let service = Binary::spawn(command, folder);
        assert_eq!(service.path(), runtime.join("postroom/postroom.sock"));
        (mode(service.path().parent().unwrap()), mode(service.path()))
    };
    let runtime = tempfile::tempdir().unwrap();
    assert_eq!(serve(runtime.path(), "0770"), (0o755, 0o770));
    let runtime = tempfile::tempdir().unwrap();
    assert_eq!(serve(runtime.path(), "0700"), (0o700, 0o700));
    // The folder is there already, from a service that let nobody in; later somebody has said who may go through.
    assert_eq!(serve(runtime.path(), "0660"), (0o755, 0o660));
    std::fs::set_permissions(runtime.path().join("postroom"), std::fs::Permissions::from_mode(0o710)).unwrap();
    assert_eq!(serve(runtime.path(), "0660"), (0o710, 0o660));
}

#[test]
fn postroom_address_overrides_the_default_and_the_arguments_override_both() {
    let folder = tempfile::tempdir().unwrap();
    let [by_environment, by_argument] = ["environment", "argument"].map(|name| folder.path().join(name));
    let mut command = Binary::command();
    command.env("XDG_RUNTIME_DIR", folder.path());
    command.env("POSTROOM_ADDRESS", format!("unix:{}", by_environment.display()));
    let service = Binary::spawn(command, tempfile::tempdir().unwrap());
    assert_eq!(service.path(), by_environment);
    drop(service);
    let mut command = Binary::command();
    command.env("POSTROOM_ADDRESS", "nonsense").arg("--listen").arg(format!("unix:{}", by_argument.display()));
    let service = Binary::spawn(command, tempfile::tempdir().unwrap());
    assert_eq!(service.path(), by_argument);
    drop(service);
    // Empty counts as not set.
    let mut command = Binary::command();
    command.env("XDG_RUNTIME_DIR", folder.path()).env("POSTROOM_ADDRESS", "");
    let service = Binary::spawn(command, tempfile::tempdir().unwrap());
    assert_eq!(service.path(), folder.path().join("postroom/postroom.sock"));
    drop(service);
    let output = run(Binary::command().env("POSTROOM_ADDRESS", "nonsense"));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("POSTROOM_ADDRESS"), "{}", text(&output.stderr));
}

#[test]
fn the_printed_configuration_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let listen = format!("unix:{}", folder.path().join("socket").display());
    let printed = run(Binary::command().args(["config", "--listen", &listen]));
    assert_eq!(printed.status.code(), Some(0));
    assert_eq!(text(&printed.stderr), "");
    let file = folder.path().join("printed.toml");
    std::fs::write(&file, &printed.stdout).unwrap();
    let again = run(Binary::command().arg("config").arg("--config").arg(&file));
    assert_eq!(text(&again.stdout), text(&printed.stdout));
    // Every limit is there, with its meaning in a comment before it.
    let lines = text(&printed.stdout);
    let lines: Vec<&str> = lines.lines().collect();
    for row in postroom::limits::TABLE {
        let at = lines.iter().position(|line| line.starts_with(&format!("{} = ", row.key)));
        let at = at.unwrap_or_else(|| panic!("{} is missing", row.key));
        assert!(lines[at - 1].starts_with("# "), "{} has no meaning", row.key);
    }
    let mut command = Binary::command();
    command.args(["serve", "--config"]).arg(&file);
    let service = Binary::spawn(command, folder);
    assert_eq!(service.address().to_string(), listen);
    service.client().is_usable();
}

#[test]
fn the_printed_configuration_is_the_one_that_takes_effect() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("postroom.toml");
    for (given, follows) in [("min_workers = 1000", "max_workers = 1000"), ("max_workers = 1", "min_workers = 1")] {
        std::fs::write(&file, given).unwrap();
        let output = run(Binary::command().args(["config", "--listen", "unix:@x", "--config"]).arg(&file));
        let printed = text(&output.stdout);
        for line in [given, follows] {
            assert!(printed.lines().any(|printed| printed == line), "no {line:?} in:\n{printed}");
        }
    }
}

#[test]
fn all_faults_of_a_configuration_are_told_at_once_with_status_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    let bad = "max_client = 5\nmin_workers = 0\nlisten = [\"http:x\"]\ndemo = 1\nwrite_timeout = \"soon\"\n";
    std::fs::write(&file, bad).unwrap();
    for command in ["serve", "config"] {
        let listen = ["--listen", "foo", "--listen", "unix:/x", "--listen", "bar"];
        let output = run(Binary::command().arg(command).args(listen).arg("--config").arg(&file));
        assert_eq!(output.status.code(), Some(2));
        let errors = text(&output.stderr);
        for part in [
            ":1: max_client = 5: ",
            "max_clients",
            ":2: min_workers = 0",
            "from 1 to",
            ":3: listen:",
            "http:x",
            ":4: demo = 1",
            "true or false",
            ":5: write_timeout = \"soon\"",
            "--listen: address \"foo\"",
            "--listen: address \"bar\"",
        ] {
            assert!(errors.contains(part), "no {part:?} in:\n{errors}");
        }
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn a_configuration_that_cannot_be_read_is_status_2() {
    let output = run(Binary::command().args(["serve", "--config", "/no/such/file.toml"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("/no/such/file.toml"), "{}", text(&output.stderr));
}

#[test]
fn wrong_usage_is_status_2_and_help_is_status_0_with_an_example() {
    for arguments in
        [&["--no-such-option"][..], &["no-such-command"], &["--listen"], &["--listen", "http:x"], &["config", "x"]]
    {
        let output = run(Binary::command().args(arguments));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(text(&output.stdout), "");
        assert_ne!(text(&output.stderr), "");
    }
    for arguments in [&["--help"][..], &["serve", "--help"], &["config", "--help"]] {
        let output = run(Binary::command().args(arguments));
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(text(&output.stdout).contains("Example: postroom"), "{arguments:?}: {}", text(&output.stdout));
    }
}

#[test]
fn a_log_filter_that_is_none_is_status_2() {
    let output = run(Binary::command().args(["serve", "--log", "a=b=c", "--listen", "tcp:127.0.0.1:0"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--log \"a=b=c\""), "{}", text(&output.stderr));
    let output =
        run(Binary::command().args(["serve", "--listen", "tcp:127.0.0.1:0"]).env("POSTROOM_LOG", "info,x=loud"));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("POSTROOM_LOG=\"info,x=loud\""), "{}", text(&output.stderr));
}

#[test]
fn a_live_socket_is_status_2_and_the_first_service_is_unharmed() {
    let first = Binary::serve("");
    let output = run(Binary::command().args(["serve", "--listen", &first.address().to_string()]));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains(&first.address().to_string()), "{}", text(&output.stderr));
    first.client().is_usable();
}

#[test]
fn a_socket_left_by_a_killed_service_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let listen = format!("unix:{}", folder.path().join("socket").display());
    for _ in 0..3 {
        let mut first = Binary::serve_with("", &["--listen", &listen]);
        first.client().is_usable();
        first.signal(Signal::KILL);
        first.wait();
        assert!(folder.path().join("socket").exists());
    }
    Binary::serve_with("", &["--listen", &listen]).client().is_usable();
}

#[test]
fn sigterm_and_sigint_stop_it_with_status_0_and_remove_the_socket() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut service = Binary::serve("");
        let mut client = service.client();
        client.is_usable();
        let path = service.path().to_owned();
        service.signal(signal);
        let error = client.announcement();
        assert_eq!(error.code(), "shutting_down");
        assert_eq!(service.exit_code(), Some(0));
        assert!(!path.exists());
        assert!(!path.with_extension("lock").exists());
    }
}

#[test]
fn a_running_call_is_finished_and_answered_before_it_exits() {
    let mut service = Binary::serve("min_workers = 1\n");
    let mut client = service.client();
    let sleep = call(ECHO, echo::SLEEP, 3, &map([("ms", 300.into())]));
    client.send(&[block(1, 300), block(2, 1), sleep].concat());
    client.call(ECHO, echo::QUICK, &parcel(1, b""));
    let path = service.path().to_owned();
    service.signal(Signal::TERM);
    eventually("nobody can connect any more", || !path.exists());
    let mut serials: Vec<u32> = (0..3).map(|_| client.packet()).map(|p| (p.value(), p.header.serial).1).collect();
    serials.sort_unstable();
    assert_eq!(serials, [1, 2, 3]);
    assert_eq!(client.announcement().code(), "shutting_down");
    assert_eq!(service.exit_code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once_with_status_130() {
    let mut service = Binary::serve("min_workers = 1\n");
    let mut client = service.client();
    client.send(&block(1, 60_000));
    client.call(ECHO, echo::QUICK, &parcel(1, b""));
    let path = service.path().to_owned();
    service.signal(Signal::TERM);
    eventually("the first signal was taken", || !path.exists());
    service.signal(Signal::INT);
    assert_eq!(service.exit_code(), Some(130));
    client.end();
}

#[test]
fn a_handler_that_outlasts_shutdown_timeout_is_cut_with_status_3() {
    let mut service = Binary::serve("min_workers = 1\nshutdown_timeout = \"200ms\"\n");
    let mut client = service.client();
    client.send(&block(1, 60_000));
    client.call(ECHO, echo::QUICK, &parcel(1, b""));
    service.signal(Signal::TERM);
    assert_eq!(service.exit_code(), Some(3));
    assert_eq!(client.error(1).code(), "shutting_down");
    assert_eq!(client.announcement().code(), "shutting_down");
    let log = service.log();
    assert!(log.contains("1 calls did not finish in time"), "{log}");
    assert!(log.contains("worker 0"), "{log}");
}

#[test]
fn a_client_that_reads_nothing_does_not_hold_up_the_stop_for_longer_than_its_timeout() {
    let mut service = Binary::serve("shutdown_timeout = \"300ms\"\n");
    let client = service.client();
    client.writer().send(&call(ECHO, echo::QUICK, 1, &parcel(1, &vec![0; 3_000_000])));
    eventually("the reply is on its way", || rustix::io::ioctl_fionread(&client).unwrap() > 0);
    service.signal(Signal::TERM);
    assert_eq!(service.exit_code(), Some(3));
}

#[test]
fn without_the_demo_there_is_no_echo() {
    let service = Binary::serve("demo = false\n");
    let mut client = service.client();
    let error = client.call_error(ECHO, echo::ECHO, &parcel(1, b""));
    assert_eq!(error.code(), "unknown_program");
    let described = client.call(DIRECTORY, 2, &[]).to_string();
    assert!(!described.contains("echo"), "{described}");
    assert!(described.contains("directory"), "{described}");
}

#[test]
fn lines_of_the_log_carry_level_module_client_and_serial() {
    let service = Binary::serve_with("", &["--log", "debug"]);
    let mut client = service.client();
    client.send(&packet(header(0xdead, 1, 1, 777), &[]));
    assert_eq!(client.error(777).code(), "unknown_program");
    let hello = map([("client", "a test".into()), ("version", "1".into())]);
    client.send(&call(DIRECTORY, 1, 778, &hello));
    client.reply(778);
    // The second is a line of a handler, which says neither.
    for (serial, says) in [("serial=777", "unknown_program"), ("serial=778", "a test")] {
        eventually("the line is there", || service.log().contains(serial));
        let log = service.log();
        let line = log.lines().find(|line| line.contains(serial)).unwrap();
        for part in ["DEBUG postroom", "client=1 ", serial, says] {
            assert!(line.contains(part), "no {part:?} in: {line}");
        }
    }
}

#[test]
fn the_log_is_as_quiet_as_it_is_told_to_be() {
    let service = Binary::serve_with("", &["--log", "off"]);
    let mut client = service.client();
    client.send(&[0, 0, 0, 0]);
    client.announcement();
    service.client().is_usable();
    assert_eq!(service.log().lines().count(), 1, "{}", service.log());
}

#[test]
fn it_raises_its_soft_limit_of_descriptors_to_the_hard_one() {
    let service = Binary::serve("");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", service.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let values: Vec<&str> = line["Max open files".len()..].split_whitespace().collect();
    assert_eq!(values[0], values[1], "{line}");
}

#[test]
fn a_stop_does_not_wait_for_clients_that_stay() {
    // If it did, the test would give up on it.
    let mut service = Binary::serve("shutdown_timeout = \"1h\"\n");
    let clients: Vec<Client> = (0..50).map(|_| service.client()).collect();
    service.client().is_usable();
    service.signal(Signal::TERM);
    assert_eq!(service.exit_code(), Some(0));
    for mut client in clients {
        assert_eq!(client.announcement().code(), "shutting_down");
    }
}
