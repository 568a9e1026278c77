//! From CONNECT to the end.

use std::sync::Arc;

use wherry_session::{AccessTable, Limits, Session as _};
use wherry_stomp::codec::Version;
use wherry_stomp::{Peer, Session, Settings, Status};

use crate::client::{Bell, Server};

const LOGIN: &str = "login:guest\npasscode:guest\n";

#[test]
fn the_status_is_that_of_amqp_sessions() {
    use wherry_amqp::session::Status as Amqp;
    for (ours, theirs) in [
        (Status::OUTPUT, Amqp::OUTPUT),
        (Status::PAUSE_READING, Amqp::PAUSE_READING),
        (Status::CLOSE, Amqp::CLOSE),
        (Status::AUTHENTICATE, Amqp::AUTHENTICATE),
        (Status::WAITS_FOR_DISK, Amqp::WAITS_FOR_DISK),
        (Status::WAITS_FOR_ROOM, Amqp::WAITS_FOR_ROOM),
    ] {
        assert_eq!(ours.bits(), theirs.bits());
    }
}

#[test]
fn the_highest_common_version_is_agreed_on() {
    let server = Server::new();
    for (accept, version) in [
        ("", "1.0"),
        ("accept-version:1.0\n", "1.0"),
        ("accept-version:1.1,1.0\n", "1.1"),
        ("accept-version:1.0,1.2,1.1,2.0\n", "1.2"),
    ] {
        for command in ["CONNECT", "STOMP"] {
            let mut client = server.accept();
            client.send(&format!("{command}\r\n{accept}{LOGIN}host:/\n\n\0\n"));
            let credentials = client.session.credentials().unwrap();
            assert_eq!(
                (credentials.mechanism, &*credentials.user),
                ("PLAIN", "guest")
            );
            assert_eq!(credentials.password.expose(), b"guest");
            client.status = client.session.authenticated("guest");
            let connected = client.frame();
            assert_eq!(connected.command, "CONNECTED");
            assert_eq!(connected.get("version"), version);
            assert_eq!(connected.get("heart-beat"), "0,0");
            assert!(connected.get("session").starts_with("session-"));
            assert!(connected.get("server").starts_with("Wherry/"));
            assert_eq!(client.session.info().state, "running");
            assert_eq!(client.session.info().virtual_host, "/");
        }
    }
}

#[test]
fn what_stands_behind_connect_waits_for_the_password() {
    let server = Server::new();
    let mut client = server.accept();
    client.send(&format!(
        "CONNECT\naccept-version:1.2\n{LOGIN}\n\0SEND\ndestination:/queue/a\nx:\\c\n\nhello\0"
    ));
    assert!(
        client
            .status
            .contains(Status::AUTHENTICATE | Status::PAUSE_READING)
    );
    assert!(server.host().queue("a").is_err());
    client.status = client.session.authenticated("guest");
    assert!(!client.status.contains(Status::PAUSE_READING));
    assert_eq!(server.host().queue("a").unwrap().message_count(), 1);
    // And it is bounded.
    let mut client = server.accept();
    client.send(&format!("CONNECT\n{LOGIN}\n\0"));
    client.send_bytes(&vec![b'\n'; 65_537]);
    client.error("resource_error");
}

#[test]
fn who_cannot_be_let_in_is_told_why() {
    let server = Server::new();
    let case = |frame: &str, message: &str, text: &str| {
        let mut client = server.accept();
        client.send(frame);
        assert_eq!(client.error(message), text, "{frame}");
        assert_eq!(server.front.connections(), 0);
    };
    case(
        "SEND\ndestination:/queue/a\n\n\0",
        "Illegal command",
        "You must log in using CONNECT first",
    );
    case(
        &format!("CONNECT\naccept-version:2.0\n{LOGIN}\n\0"),
        "Version mismatch",
        "Supported versions are 1.0,1.1,1.2\n",
    );
    case(
        "CONNECT\nlogin:guest\n\n\0",
        "Bad CONNECT",
        "Missing login or passcode header(s)\n",
    );
    case(
        &format!("CONNECT\nheart-beat:a,b\n{LOGIN}\n\0"),
        "Invalid header",
        "'a,b' is not a valid heart-beat: use two numbers of milliseconds\n",
    );
    case(
        "CONNECT\nlogin\n\n\0",
        "Malformed frame",
        "a header must be a name, a colon and a value\n",
    );
    let mut client = server.accept();
    client.send("CONNECT\nlogin:a'b\npasscode:x\n\n\0");
    client.status = client.session.refused();
    assert_eq!(client.error("Bad CONNECT"), "Access refused for user 'a'b'");
    assert_eq!(server.front.counters().logins_refused.get(), 1);
    assert!(client.session.credentials().is_none());
    for (host, user) in [("nope", "guest"), ("/", "bob")] {
        let mut client = server.accept();
        client.send(&format!("CONNECT\n{LOGIN}host:{host}\n\n\0"));
        client.status = client.session.authenticated(user);
        assert_eq!(
            client.error("Bad CONNECT"),
            format!("Virtual host '{host}' access denied")
        );
    }
}

#[test]
fn a_certificate_is_a_login() {
    let server = Server::new();
    let peer = Peer {
        certificate_name: Some("CN=guest".into()),
        ..Peer::default()
    };
    let mut client = server.accept_from(peer);
    client.send("CONNECT\n\n\0");
    let credentials = client.session.credentials().unwrap();
    assert_eq!(
        (credentials.mechanism, &*credentials.user),
        ("EXTERNAL", "CN=guest")
    );
    client.status = client.session.authenticated("guest");
    assert_eq!(client.frame().command, "CONNECTED");
}

/// Logs in with the `host` header, if one is given. The virtual host, or the body of the ERROR.
fn enter(server: &Server, settings: &Arc<Settings>, host: Option<&str>) -> Result<String, String> {
    let session = Session::with_settings(
        server.front.clone(),
        settings.clone(),
        Peer::default(),
        Arc::new(Bell::default()),
        1,
    );
    let host = host.map_or(String::new(), |host| format!("host:{host}\n"));
    let connect = format!("CONNECT\nlogin:guest\npasscode:x\n{host}\n\0");
    session.receive(connect.as_bytes());
    session.authenticated("guest");
    let mut out = Vec::new();
    session.write_into(&mut out, 1 << 16);
    let out = String::from_utf8(out).unwrap();
    match out.split_once("\n\n").unwrap() {
        (head, _) if head.starts_with("CONNECTED") => {
            assert!(format!("{session:?}").contains("guest"));
            Ok(session.info().virtual_host)
        }
        (head, body) => {
            assert!(head.starts_with("ERROR\nmessage:Bad CONNECT"), "{head}");
            Err(body.trim_end_matches(['\0', '\n']).into())
        }
    }
}

#[test]
fn who_names_no_virtual_host_or_this_machine_gets_the_settings_one() {
    let server = Server::new();
    let mut table = AccessTable::builder();
    for name in ["other", "127.0.0.2", "broker.example"] {
        server.front.broker().add_virtual_host(name).unwrap();
        table.permission("guest", name, ".*", ".*", ".*").unwrap();
    }
    server.front.broker().add_virtual_host("10.0.0.1").unwrap();
    server.front.set_access(table.build());
    let settings = Arc::new(Settings {
        virtual_host: "other".into(),
        host_names: vec!["Tern".into(), "broker.example".into()],
    });
    let ours = [
        "127.0.0.1",
        "::1",
        "[::1]",
        "fe80::1%eth0",
        "192.0.2.7",
        "localhost",
        "LOCALHOST",
        "tern",
        "other",
    ];
    for host in ours.map(Some).into_iter().chain([None]) {
        let entered = enter(&server, &settings, host);
        assert_eq!(entered.as_deref(), Ok("other"), "{host:?}");
    }
    // A virtual host that is called so comes first, also when the user may not enter it.
    for host in ["127.0.0.2", "broker.example"] {
        assert_eq!(enter(&server, &settings, Some(host)).as_deref(), Ok(host));
    }
    for host in [
        "10.0.0.1",
        "elsewhere.example",
        "127.0.0",
        "tern.example",
        "",
    ] {
        assert_eq!(
            enter(&server, &settings, Some(host)).unwrap_err(),
            format!("Virtual host '{host}' access denied")
        );
    }
}

#[test]
fn limits_of_connections_hold() {
    let server = Server::with_limits(Limits {
        connections_max: 1,
        ..Limits::default()
    });
    let first = server.v12();
    let mut second = server.accept();
    second.send(&format!("CONNECT\n{LOGIN}\n\0"));
    second.status = second.session.authenticated("guest");
    assert!(second.error("Bad CONNECT").contains("limit (1) is reached"));
    first.session.lost();
    server.v12();
}

#[test]
fn a_second_connect_and_unknown_commands_are_errors() {
    let server = Server::new();
    let mut client = server.v12();
    client.send(&format!("CONNECT\n{LOGIN}\n\0"));
    assert_eq!(client.error("Bad command"), "Already connected\n");
    let mut client = server.v12();
    client.send("FOO\nreceipt:r\\c1\n\nx\0");
    let frame = client.frame();
    assert_eq!(frame.get("message"), "Bad command");
    assert_eq!(frame.get("receipt-id"), "r:1");
    assert_eq!(frame.text(), "Could not interpret command \"FOO\"\n");
}

#[test]
fn disconnect_ends_with_its_receipt() {
    let server = Server::new();
    let mut client = server.v12();
    client.send("DISCONNECT\nreceipt:bye\n\n\0SEND\ndestination:/queue/a\n\n\0");
    client.receipt("bye");
    assert!(client.status.contains(Status::CLOSE));
    client.nothing();
    assert!(
        server.host().queue("a").is_err(),
        "nothing counts behind it"
    );
    let mut client = server.v12();
    client.send("DISCONNECT\n\n\0");
    client.nothing();
    assert!(client.status.contains(Status::CLOSE));
    server.assert_empty();
}

#[test]
fn the_server_can_end_it() {
    let server = Server::new();
    let mut client = server.v12();
    client.status = client.session.shut_down("maintenance");
    assert_eq!(
        client.error("connection_forced"),
        "CONNECTION_FORCED - maintenance"
    );
    client.status = client.session.shut_down("again");
    client.nothing();
    server.assert_empty();
}

#[test]
fn heart_beats_are_agreed_on_sent_and_expected() {
    let server = Server::new();
    let mut client = server.accept();
    client.send(&format!(
        "CONNECT\naccept-version:1.1\nheart-beat:3000,500\n{LOGIN}\n\0"
    ));
    client.status = client.session.authenticated("guest");
    assert_eq!(client.frame().get("heart-beat"), "2000,3000");
    // The shorter one.
    assert_eq!(client.session.info().heartbeat_seconds, 2);
    let beat = |client: &mut crate::client::Client, now: f64| {
        client.status = client.session.tick(now);
        let mut out = Vec::new();
        client.status = client.session.write_into(&mut out, 100);
        out
    };
    assert_eq!(beat(&mut client, 100.0), b"");
    assert_eq!(beat(&mut client, 100.5), b"");
    assert_eq!(beat(&mut client, 101.0), b"\n", "half of two seconds");
    assert_eq!(beat(&mut client, 102.0), b"\n");
    client.send("\n");
    beat(&mut client, 105.0);
    assert!(!client.status.contains(Status::CLOSE));
    beat(&mut client, 111.0);
    assert!(
        !client.status.contains(Status::CLOSE),
        "two intervals are granted"
    );
    beat(&mut client, 111.1);
    assert!(client.status.contains(Status::CLOSE));
    server.assert_empty();
}

#[test]
fn who_says_nothing_is_not_waited_for() {
    let server = Server::new();
    for begun in [
        "",
        "CONNECT\nlogin:",
        "CONNECT\nlogin:guest\npasscode:x\n\n\0",
    ] {
        let mut client = server.accept();
        client.send(begun);
        client.status = client.session.tick(5.0);
        client.send_bytes(b"");
        client.status = client.session.tick(15.0);
        assert!(!client.status.contains(Status::CLOSE));
        client.status = client.session.tick(15.1);
        assert!(client.status.contains(Status::CLOSE), "{begun}");
    }
    let mut client = server.v12();
    client.session.tick(5.0);
    client.status = client.session.tick(5000.0);
    assert!(
        !client.status.contains(Status::CLOSE),
        "without heart-beats nobody is dead"
    );
}

#[test]
fn every_version_connects_by_the_test_client() {
    let server = Server::new();
    for version in [Version::V1_0, Version::V1_1, Version::V1_2] {
        server.connect(version).nothing();
    }
}
