//! Who a client is, as handlers see it.

use std::collections::HashSet;

use rmpv::Value;

use crate::support::*;

fn who(client: &mut Client) -> Vec<(String, Value)> {
    let who = client.call(ECHO, echo::WHOAMI, &[]);
    let Value::Map(fields) = who else { panic!("{who}") };
    fields.into_iter().map(|(key, value)| (key.as_str().unwrap().to_owned(), value)).collect()
}

fn field(who: &[(String, Value)], key: &str) -> Value {
    who.iter().find(|(name, _)| name == key).unwrap_or_else(|| panic!("{who:?} has no {key}")).1.clone()
}

#[test]
fn a_client_at_a_unix_socket_is_its_user_group_and_process() {
    let service = TestService::with(|config| {
        config.listen.push(format!("unix:@postroom-identity-{}", std::process::id()).parse().unwrap());
    });
    for address in [0, 1] {
        let who = who(&mut Client::connect(service.address(address)));
        assert_eq!(field(&who, "transport"), Value::from("unix"));
        assert_eq!(field(&who, "uid"), Value::from(rustix::process::getuid().as_raw()));
        assert_eq!(field(&who, "gid"), Value::from(rustix::process::getgid().as_raw()));
        assert_eq!(field(&who, "pid"), Value::from(std::process::id()));
    }
}

#[test]
fn nothing_is_known_of_a_client_over_tcp() {
    let service = TestService::with_tcp(|_| {});
    let who = who(&mut service.tcp_client());
    assert_eq!(field(&who, "transport"), Value::from("tcp"));
    for key in ["uid", "gid", "pid"] {
        assert_eq!(field(&who, key), Value::Nil);
    }
}

#[test]
fn every_connection_has_a_number_of_its_own_for_good() {
    let service = TestService::with_tcp(|_| {});
    let mut seen = HashSet::new();
    for _ in 0..20 {
        for mut client in [service.client(), service.tcp_client()] {
            let id = field(&who(&mut client), "client_id").as_u64().unwrap();
            assert!(id >= 1);
            assert!(seen.insert(id), "{id} twice");
            assert_eq!(field(&who(&mut client), "client_id").as_u64(), Some(id));
        }
    }
}
