//! What `virsh` prints, command by command: the very lines that it prints with libvirt's own test driver, as recorded
//! with libvirt 9.0.

use super::virsh::*;

/// What every driver that a URI may name has to get.
#[test]
fn virsh_prints_what_it_prints_with_libvirts_own_daemon_whatever_driver_its_uri_names() {
    let Some(daemon) = Daemon::start() else { return };
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for driver in ["test+unix:///default", "qemu+unix:///system"] {
        let uri = daemon.uri(driver);
        let check = |arguments: &[&str], expected: &str| {
            let done = finish(&mut daemon.command_to(&uri, arguments));
            let expected = Done { status: Some(0), output: expected.to_owned(), errors: String::new() };
            assert_eq!(done, expected, "{arguments:?}");
        };
        check(&["hostname"], host.trim());
        check(&["uri"], &uri);
        let running = " Id   Name   State\n----------------------\n 1    test   running";
        check(&["list"], running);
        check(&["list", "--all"], running);
        check(&["list", "--inactive"], " Id   Name   State\n--------------------");
        check(&["list", "--all", "--name"], "test");
        check(&["list", "--all", "--uuid"], TEST_UUID);
        check(&["domstate", "test"], "running");
        check(&["domstate", "--reason", "test"], "running (booted)");
        check(&["domid", "test"], "1");
        check(&["domuuid", "1"], TEST_UUID);
        check(&["domname", TEST_UUID], "test");
        check(&["snapshot-list", "test"], " Name   Creation Time   State\n-------------------------------");
        check(
            &["dominfo", "test"],
            &format!(
                "Id:             1
Name:           test
UUID:           {TEST_UUID}
OS Type:        hvm
State:          running
CPU(s):         2
Max memory:     8388608 KiB
Used memory:    2097152 KiB
Persistent:     yes
Autostart:      disable
Managed save:   no"
            ),
        );
        check(
            &["nodeinfo"],
            &format!(
                "CPU model:           {}
CPU(s):              16
CPU frequency:       2400 MHz
CPU socket(s):       1
Core(s) per socket:  8
Thread(s) per core:  2
NUMA cell(s):        1
Memory size:         33554432 KiB",
                std::env::consts::ARCH
            ),
        );
    }
}

#[test]
fn virsh_tells_the_versions_of_the_library_the_hypervisor_and_the_daemon() {
    let Some(daemon) = Daemon::start() else { return };
    let output = daemon.ok(&["version", "--daemon"]);
    let lines: Vec<&str> = output.lines().collect();
    assert!(lines[0].starts_with("Compiled against library: libvirt "), "{output}");
    assert!(lines[2].starts_with("Using API: Postroom "), "{output}");
    assert_eq!(lines[3..], ["Running hypervisor: Postroom 0.1.0", "Running against daemon: 9.0.0"]);
}

#[test]
fn a_client_that_was_told_no_driver_asks_the_daemon() {
    let Some(daemon) = Daemon::start() else { return };
    let done = finish(&mut daemon.command_to(&daemon.uri("remote+unix:///"), &["list", "--name"]));
    assert_eq!(done, Done { status: Some(0), output: "test".to_owned(), errors: String::new() });
}

#[test]
fn a_domain_lives_from_its_file_to_its_end_in_one_session() {
    let Some(daemon) = Daemon::start() else { return };
    let file = daemon.file("web.xml", &web(0));
    let define = format!("define {file}");
    let defined = format!("Domain 'web' defined from {file}");
    let steps = [
        (&*define, &*defined),
        ("domstate --reason web", "shut off (unknown)"),
        ("domid web", "-"),
        ("start web", "Domain 'web' started"),
        ("domstate --reason web", "running (booted)"),
        ("domid web", "2"),
        ("suspend web", "Domain 'web' suspended"),
        ("domstate --reason web", "paused (user)"),
        ("resume web", "Domain 'web' resumed"),
        ("domstate --reason web", "running (unpaused)"),
        ("reboot web", "Domain 'web' is being rebooted"),
        (&define, &defined),
        ("shutdown web", "Domain 'web' is being shutdown"),
        ("domstate --reason web", "shut off (shutdown)"),
        ("autostart web", "Domain 'web' marked as autostarted"),
        ("list --all --autostart --name", "web"),
        ("start web", "Domain 'web' started"),
        ("destroy web", "Domain 'web' destroyed"),
        ("domstate --reason web", "shut off (destroyed)"),
        ("undefine web", "Domain 'web' has been undefined"),
        ("list --all --name", "test"),
    ];
    let printed = daemon.session(&steps.map(|(command, _)| command));
    let expected = steps.map(|(_, expected)| expected);
    // What comes first is the greeting, in three lines.
    assert_eq!(printed[3..], expected, "{printed:#?}");
}

#[test]
fn a_list_has_domains_that_run_and_others() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.define_web(0);
    let all = " Id   Name   State\n-----------------------\n 1    test   running\n -    web    shut off";
    assert_eq!(daemon.ok(&["list", "--all"]), all);
    daemon.ok(&["start", "web"]);
    daemon.ok(&["suspend", "web"]);
    let all = " Id   Name   State\n----------------------\n 1    test   running\n 2    web    paused";
    assert_eq!(daemon.ok(&["list", "--all"]), all);
    assert_eq!(daemon.ok(&["list", "--all", "--state-paused", "--name"]), "web");
}

#[test]
fn what_was_defined_is_dumped_as_libvirt_dumps_it() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.define_web(0);
    let dumped = |id: &str| {
        format!(
            "<domain type='test'{id}>
  <name>web</name>
  <uuid>{WEB_UUID}</uuid>
  <memory unit='KiB'>524288</memory>
  <currentMemory unit='KiB'>524288</currentMemory>
  <vcpu placement='static'>2</vcpu>
  <os>
    <type arch='x86_64'>hvm</type>
    <boot dev='hd'/>
  </os>
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
  </devices>
</domain>"
        )
    };
    assert_eq!(daemon.ok(&["dumpxml", "web"]), dumped(""));
    daemon.ok(&["start", "web"]);
    assert_eq!(daemon.ok(&["dumpxml", "web"]), dumped(" id='2'"));
    assert_eq!(daemon.ok(&["dumpxml", "--inactive", "web"]), dumped(""));
    assert!(daemon.ok(&["capabilities"]).contains("<os_type>hvm</os_type>"));
}

#[test]
fn a_domain_that_is_created_is_there_for_as_long_as_it_runs() {
    let Some(daemon) = Daemon::start() else { return };
    let file = daemon.file("web.xml", &web(0));
    assert_eq!(daemon.ok(&["create", &file]), format!("Domain 'web' created from {file}"));
    assert!(daemon.ok(&["dominfo", "web"]).contains("Persistent:     no\n"));
    let again = format!(
        "error: Failed to create domain from {file}\n\
         error: Requested operation is not valid: domain 'web' is already active"
    );
    assert_eq!(daemon.error(&["create", &file]), again);
    let undefined = "error: Failed to undefine domain 'web'\n\
                     error: Requested operation is not valid: cannot undefine transient domain";
    assert_eq!(daemon.error(&["undefine", "web"]), undefined);
    daemon.ok(&["destroy", "web"]);
    assert_eq!(daemon.ok(&["list", "--all", "--name"]), "test");
}

#[test]
fn a_domain_that_is_undefined_while_it_runs_is_gone_when_it_stops() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.ok(&["undefine", "test"]);
    assert!(daemon.ok(&["dominfo", "test"]).contains("Persistent:     no\n"));
    daemon.ok(&["shutdown", "test"]);
    assert_eq!(daemon.ok(&["list", "--all"]), " Id   Name   State\n--------------------");
}

#[test]
fn what_cannot_be_done_is_told_in_libvirts_words() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.define_web(0);
    let refused = [
        (&["dominfo", "nosuch"][..], "error: failed to get domain 'nosuch'"),
        (&["domname", "77"], "error: failed to get domain '77'"),
        (&["start", "test"], "error: Domain is already active"),
        (
            &["destroy", "web"],
            "error: Failed to destroy domain 'web'\nerror: Requested operation is not valid: domain is not running",
        ),
        (
            &["shutdown", "web"],
            "error: Failed to shutdown domain 'web'\nerror: internal error: domain 'web' not running",
        ),
        (&["suspend", "web"], "error: Failed to suspend domain 'web'\nerror: internal error: domain 'web' not running"),
        (&["resume", "test"], "error: Failed to resume domain 'test'\nerror: internal error: domain 'test' not paused"),
        (
            &["reboot", "web"],
            "error: Failed to reboot domain 'web'\nerror: Requested operation is not valid: domain is not running",
        ),
        (
            &["start", "--paused", "web"],
            "error: Failed to start domain 'web'\n\
             error: unsupported flags (0x1) in function DomainCreateWithFlags",
        ),
    ];
    for (arguments, expected) in refused {
        assert_eq!(daemon.error(arguments), expected, "{arguments:?}");
    }
}

#[test]
fn a_definition_that_is_wrong_is_told_in_libvirts_words() {
    let Some(daemon) = Daemon::start() else { return };
    let web = web(0);
    let wrong = [
        ("web.xml", web.replace("web", " "), "missing name information"),
        ("web.xml", web.replace("web", "a/b"), "XML error: name a/b cannot contain '/'"),
        ("web.xml", web.replace("8f4c", "x"), "internal error: malformed uuid element"),
        ("web.xml", web.replace("MiB", "furlong"), "invalid argument: unknown suffix 'furlong'"),
        (
            "web.xml",
            web.replace("web", "test"),
            "operation failed: domain 'test' already exists with uuid 6695eb01-f6a4-8304-79aa-97f2502e193f",
        ),
        (
            "web.xml",
            web.replace(WEB_UUID, TEST_UUID),
            "operation failed: domain 'test' is already defined with uuid 6695eb01-f6a4-8304-79aa-97f2502e193f",
        ),
        ("web.xml", "<network/>".to_owned(), "XML error: expecting root element of 'domain', not 'network'"),
    ];
    for (name, xml, expected) in wrong {
        let file = daemon.file(name, &xml);
        let expected = format!("error: Failed to define domain from {file}\nerror: {expected}");
        assert_eq!(daemon.error(&["define", &file]), expected);
    }
    let file = daemon.file("web.xml", "<domain type='test'>\n<name>web</name>\n");
    let told = daemon.error(&["define", &file]);
    assert!(told.contains("\nerror: (domain_definition):"), "{told}");
    assert_eq!(daemon.ok(&["list", "--all", "--name"]), "test");
}

#[test]
fn what_the_daemon_does_not_do_virsh_calls_unsupported() {
    let Some(daemon) = Daemon::start() else { return };
    let told = daemon.error(&["domjobinfo", "test"]);
    assert_eq!(told, "error: unknown procedure: 163");
    assert!(daemon.error(&["net-list"]).ends_with("\nerror: unknown procedure: 52"));
}
