//! Who one is: mechanisms, verdicts, secrets.

use wherry_amqp::codec::{Method, PROTOCOL_HEADER};
use wherry_amqp::session::{Peer, Status};
use wherry_engine::table::Value;
use wherry_session::Session as _;

use crate::client::{Server, all_capabilities, encoded};
use crate::methods::start_ok;

#[test]
fn amqplain_is_understood() {
    let mut client = Server::new().accept();
    client.raw(&PROTOCOL_HEADER);
    client.next();
    let response = encoded([
        ("LOGIN", Value::from("guest")),
        ("PASSWORD", Value::from("secret")),
    ]);
    start_ok(&mut client, "AMQPLAIN", &response);
    let credentials = client.session.credentials().unwrap();
    assert_eq!(credentials.mechanism, "AMQPLAIN");
    assert_eq!(credentials.user, "guest");
    assert_eq!(credentials.password.expose(), b"secret");
}

#[test]
fn external_needs_a_certificate() {
    let server = Server::new();
    let mut client = server.accept_from(Peer {
        certificate_name: Some("CN=alice".into()),
        ..Peer::default()
    });
    client.raw(&PROTOCOL_HEADER);
    let got = client.next();
    assert!(matches!(
        got.method(),
        Method::ConnectionStart {
            mechanisms: b"EXTERNAL PLAIN AMQPLAIN",
            ..
        }
    ));
    start_ok(&mut client, "EXTERNAL", b"");
    let credentials = client.session.credentials().unwrap();
    assert_eq!(
        (credentials.mechanism, &*credentials.user),
        ("EXTERNAL", "CN=alice")
    );

    let mut client = server.accept();
    client.raw(&PROTOCOL_HEADER);
    client.next();
    start_ok(&mut client, "EXTERNAL", b"");
    client.expect_close(
        503,
        "COMMAND_INVALID - unknown authentication mechanism 'EXTERNAL'",
    );
}

#[test]
fn a_refused_login_is_told_or_dropped() {
    let server = Server::new();
    let mut client = server.accept();
    client.greet("guest", "wrong", &["authentication_failure_close"]);
    client.status = client.session.refused();
    client.flush();
    assert!(!client.session.status().contains(Status::CLOSE)); // not before it has answered
    client.expect_close(
        403,
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.",
    );

    // Nor is it waited for without end.
    let mut client = server.accept();
    client.greet("guest", "wrong", &["authentication_failure_close"]);
    client.status = client.session.refused();
    client.session.tick(100.0);
    assert!(!client.session.status().contains(Status::CLOSE));
    client.session.tick(111.0);
    assert!(client.session.status().contains(Status::CLOSE));

    let mut client = server.accept();
    client.greet("guest", "wrong", &[]);
    client.status = client.session.refused();
    assert!(client.status.contains(Status::CLOSE));
    client.expect_silence();
    assert_eq!(server.front.counters().logins_refused.get(), 3);
}

#[test]
fn frames_wait_for_the_verdict_on_the_credentials() {
    let mut client = Server::new().accept();
    client.greet("guest", "secret", &all_capabilities());
    client.send(
        0,
        &Method::ConnectionTuneOk {
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: 0,
        },
    );
    client.send(0, &Method::ConnectionOpen { virtual_host: "/" });
    client.expect_silence();
    client.status = client.session.authenticated("guest");
    assert!(matches!(
        client.next().method(),
        Method::ConnectionTune { .. }
    ));
    client.expect(0, &Method::ConnectionOpenOk {});
}

#[test]
fn garbled_responses_end_the_connection() {
    for (mechanism, response, code, text) in [
        (
            "PLAIN",
            &b"guest"[..],
            403,
            "ACCESS_REFUSED - response to mechanism PLAIN is invalid",
        ),
        (
            "AMQPLAIN",
            b"\x05L",
            403,
            "ACCESS_REFUSED - response to mechanism AMQPLAIN is invalid",
        ),
        (
            "SCRAM",
            b"",
            503,
            "COMMAND_INVALID - unknown authentication mechanism 'SCRAM'",
        ),
    ] {
        let mut client = Server::new().accept();
        client.raw(&PROTOCOL_HEADER);
        client.next();
        start_ok(&mut client, mechanism, response);
        client.expect_close(code, text);
    }
}

#[test]
fn secrets_are_renewed() {
    let server = Server::new();
    let mut client = server.channel();
    client.send(
        0,
        &Method::ConnectionUpdateSecret {
            new_secret: b"fresh",
            reason: "expired",
        },
    );
    assert!(client.status.contains(Status::AUTHENTICATE));
    let credentials = client.session.credentials().unwrap();
    assert_eq!(
        (&*credentials.user, credentials.password.expose()),
        ("guest", &b"fresh"[..])
    );
    client.send(2, &Method::ChannelOpen {});
    client.expect_silence();
    client.status = client.session.authenticated("guest");
    client.expect(0, &Method::ConnectionUpdateSecretOk {});
    client.expect(2, &Method::ChannelOpenOk {});

    client.send(
        0,
        &Method::ConnectionUpdateSecret {
            new_secret: b"",
            reason: "",
        },
    );
    client.status = client.session.refused();
    client.expect_close(
        530,
        "NOT_ALLOWED - New secret was refused by one of the backends",
    );
}
