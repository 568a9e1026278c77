//! Back-pressure: who waits for memory or disk, and who does not read.

use wherry_amqp::codec::{FrameKind, Method};
use wherry_amqp::session::{BLOCKED_SECONDS_MIN, Status};
use wherry_engine::properties::Properties;
use wherry_engine::table::TableView;
use wherry_session::{Limits, SLOW_REQUESTS_PER_STINT, Session as _};

use crate::client::{Server, method_bytes, publish_bytes};

#[test]
fn a_publisher_is_blocked_and_let_go() {
    use wherry_session::Alarms;
    let server = Server::new();
    let mut client = server.channel();
    client.declare("q");
    server.front.set_alarms(Alarms {
        memory: true,
        disk: false,
    });
    // Who does not publish is not blocked.
    client.send(1, &Method::TxSelect {});
    client.expect(1, &Method::TxSelectOk {});
    client.open(2);
    let status = client.raw(&publish_bytes(
        2,
        "",
        "q",
        false,
        &Properties::default(),
        b"one",
    ));
    assert!(status.contains(Status::PAUSE_READING | Status::WAITS_FOR_ROOM | Status::OUTPUT));
    client.expect(
        0,
        &Method::ConnectionBlocked {
            reason: "low on memory",
        },
    );
    assert!(client.session.is_blocked());
    client.raw(&publish_bytes(
        2,
        "",
        "q",
        false,
        &Properties::default(),
        b"two",
    ));
    client.send(3, &Method::ChannelOpen {});
    client.expect_silence(); // told once, and nothing behind it is worked off
    server.front.set_alarms(Alarms {
        memory: false,
        disk: true,
    });
    assert!(client.session.resume().contains(Status::PAUSE_READING));
    client.expect_silence();
    server.front.set_alarms(Alarms::default());
    client.status = client.session.resume();
    assert!(!client.status.contains(Status::PAUSE_READING));
    client.expect(3, &Method::ChannelOpenOk {}); // it goes on at once, and is told so later
    assert_eq!(server.host().queue("q").unwrap().message_count(), 2);
    client.session.tick(0.0);
    client.session.tick(BLOCKED_SECONDS_MIN - 0.1);
    client.expect_silence();
    client.status = client.session.tick(BLOCKED_SECONDS_MIN);
    client.expect(0, &Method::ConnectionUnblocked {});
}

#[test]
fn a_publisher_is_told_seldom_while_memory_comes_and_goes() {
    use wherry_session::Alarms;
    let server = Server::new();
    let mut client = server.channel();
    client.declare("q");
    let full = Alarms {
        memory: true,
        disk: false,
    };
    let (mut told, mut untold, mut held) = (Vec::new(), Vec::new(), 0);
    // Over and under the limit 25 times a second, for a minute of the sessions' clock.
    for moment in 0..60 * 25 {
        let now = f64::from(moment) / 25.0;
        if moment % 25 == 0 {
            client.status = client.session.tick(now);
        }
        server.front.set_alarms(full);
        client.publish("q", b"x");
        held += usize::from(client.session.is_blocked());
        client.flush();
        server.front.set_alarms(Alarms::default());
        client.status = client.session.resume();
        while let Some(got) = client.try_next() {
            match got.method() {
                Method::ConnectionBlocked { .. } => told.push(now),
                Method::ConnectionUnblocked {} => untold.push(now),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(held, 60 * 25); // it did come and go
    assert!((10..=25).contains(&told.len()), "{told:?}");
    assert!(told.len() - untold.len() <= 1);
    // Each time for so long at least; and never longer than a tick more, as there was room.
    for (begun, over) in std::iter::zip(&told, &untold) {
        assert!((BLOCKED_SECONDS_MIN - 1.0..=BLOCKED_SECONDS_MIN + 1.0).contains(&(over - begun)));
    }
    assert_eq!(server.host().queue("q").unwrap().message_count(), 60 * 25);
}

#[test]
fn who_was_blocked_for_long_is_told_at_once() {
    use wherry_session::Alarms;
    let server = Server::new();
    let mut client = server.channel();
    client.declare("q");
    client.session.tick(0.0);
    server.front.set_alarms(Alarms {
        memory: true,
        disk: false,
    });
    client.publish("q", b"x");
    client.expect(
        0,
        &Method::ConnectionBlocked {
            reason: "low on memory",
        },
    );
    client.session.tick(BLOCKED_SECONDS_MIN);
    server.front.set_alarms(Alarms::default());
    client.status = client.session.resume();
    client.expect(0, &Method::ConnectionUnblocked {});
}

#[test]
fn a_client_that_does_not_know_blocked_is_not_told() {
    use wherry_session::Alarms;
    let server = Server::new();
    let mut client = server.connect_as("guest", &[]);
    client.open(1);
    server.front.set_alarms(Alarms {
        memory: true,
        disk: true,
    });
    client.publish("q", b"x");
    client.expect_silence();
    assert!(client.session.is_blocked());
    server.front.set_alarms(Alarms::default());
    client.session.resume();
    client.expect_silence();
    assert!(!client.session.is_blocked());
}

#[test]
fn a_full_memory_pauses_and_an_empty_one_goes_on() {
    use wherry_engine::{BrokerOptions, MEMORY_BYTES_MIN};
    let options = BrokerOptions {
        memory_bytes_max: Some(MEMORY_BYTES_MIN),
        ..BrokerOptions::default()
    };
    let server = Server::with(options, Limits::default());
    let mut client = server.channel();
    client.declare("q");
    let mut sent = 0;
    while !client.status.contains(Status::WAITS_FOR_ROOM) {
        client.publish("q", &[0; 100_000]);
        sent += 1;
        assert!(sent < 10_000);
    }
    let mut consumer = server.channel();
    consumer.consume("q", "c", true);
    assert_eq!(consumer.deliveries().len(), sent - 1);
    client.status = client.session.resume();
    assert!(!client.status.contains(Status::PAUSE_READING));
    assert_eq!(consumer.deliveries().len(), 1);
}

#[test]
fn what_waits_behind_a_pause_is_bounded() {
    use wherry_session::Alarms;
    let server = Server::with_limits(Limits {
        input_bytes_max: 200_000,
        ..Limits::default()
    });
    let mut client = server.channel();
    server.front.set_alarms(Alarms {
        memory: true,
        disk: false,
    });
    client.publish("q", b"x");
    client.expect(
        0,
        &Method::ConnectionBlocked {
            reason: "low on memory",
        },
    );
    let bytes = publish_bytes(1, "", "q", false, &Properties::default(), &[0; 100_000]);
    client.raw(&bytes);
    client.raw(&bytes);
    let got = client.next();
    assert!(
        matches!(
            got.method(),
            Method::ConnectionClose {
                reply_code: 506,
                ..
            }
        ),
        "{:?}",
        got.method()
    );
}

#[test]
fn who_does_not_read_its_answers_is_not_read_from() {
    let server = Server::with_limits(Limits {
        output_bytes_max: 100_000,
        ..Limits::default()
    });
    let mut client = server.channel();
    let mut sent = 0;
    while !client.status.contains(Status::PAUSE_READING) {
        client.publish_to("", "none", true, &Properties::default(), &[0; 10_000]);
        sent += 1;
        assert!(sent < 100);
    }
    // What was sent before the server stopped reading is worked off when the answers are taken.
    client.publish_to("", "none", true, &Properties::default(), b"last");
    let mut returned = 0;
    while let Some(got) = client.try_next() {
        returned += usize::from(got.kind == FrameKind::Method);
    }
    assert_eq!(returned, sent + 1);
    assert!(!client.status.contains(Status::PAUSE_READING));
}

#[test]
fn slow_requests_in_one_read_let_others_have_their_turn() {
    let server = Server::new();
    let mut client = server.channel();
    let count = 3 * SLOW_REQUESTS_PER_STINT as usize + 1;
    let declares: Vec<u8> = (0..count)
        .flat_map(|number| {
            method_bytes(
                1,
                &Method::QueueDeclare {
                    queue: &format!("q{number}"),
                    passive: false,
                    durable: false,
                    exclusive: false,
                    auto_delete: false,
                    no_wait: true,
                    arguments: TableView::new(&[]),
                },
            )
        })
        .collect();
    let status = client.raw(&declares);
    let declared = || server.host().queues().len();
    assert_eq!(declared(), SLOW_REQUESTS_PER_STINT as usize);
    // The server comes back to it by itself, and reads no more until it is through.
    assert!(status.contains(Status::PAUSE_READING | Status::OUTPUT));
    let mut bytes = Vec::new();
    client.session.write_into(&mut bytes, 4096);
    assert_eq!(declared(), 2 * SLOW_REQUESTS_PER_STINT as usize);
    // What comes meanwhile stays behind it.
    client.send(3, &Method::ChannelOpen {});
    client.expect(3, &Method::ChannelOpenOk {});
    assert_eq!(declared(), count);
    client.expect_silence();
    assert!(!client.status.contains(Status::PAUSE_READING));
}
