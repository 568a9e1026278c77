//! Channels: opening, closing, and what may be asked of one beside its work.

use wherry_amqp::codec::Method;
use wherry_session::{AccessTable, Limits, Session as _, UserLimits};

use crate::client::Server;

#[test]
fn channels_are_limited_and_opened_once() {
    let mut client = Server::new().accept();
    client.greet("guest", "secret", &[]);
    client.session.authenticated("guest");
    client.next();
    client.send(
        0,
        &Method::ConnectionTuneOk {
            channel_max: 2,
            frame_max: 4096,
            heartbeat: 0,
        },
    );
    client.send(0, &Method::ConnectionOpen { virtual_host: "/" });
    client.next();
    client.open(1);
    client.open(2);
    let mut third = client;
    third.send(3, &Method::ChannelOpen {});
    third.expect_close(
        530,
        "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)",
    );

    let mut client = Server::with_limits(Limits {
        channels_per_connection_max: 1,
        ..Limits::default()
    })
    .channel();
    client.send(2, &Method::ChannelOpen {});
    client.expect_close(
        530,
        "NOT_ALLOWED - number of channels opened (1) has reached the maximum allowed connection limit of (1)",
    );

    // By itself it is no limit: who may have all numbers may have them at a time.
    let mut client = Server::with_limits(Limits {
        channel_max: u16::MAX,
        ..Limits::default()
    })
    .channel();
    for number in 2..=u16::MAX {
        client.open(number);
    }

    // A user's limit. No method is named for any of them.
    let server = Server::new();
    let mut client = server.channel();
    let mut table = AccessTable::builder();
    let one = UserLimits {
        channels_max: Some(1),
        ..UserLimits::default()
    };
    table.user_limits("guest", one);
    server.front.set_access(table.build());
    client.send(2, &Method::ChannelOpen {});
    let refused = client.next();
    assert_eq!(
        refused.method(),
        Method::ConnectionClose {
            reply_code: 530,
            reply_text: "NOT_ALLOWED - number of channels opened for user 'guest' has reached the maximum allowed user limit of (1)",
            class_id: 0,
            method_id: 0,
        }
    );

    // How many, not which.
    let mut client = Server::new().channel();
    client.open(65_535);
    client.send(65_535, &Method::ChannelOpen {});
    client.expect_close(504, "CHANNEL_ERROR - second 'channel.open' seen");

    let mut client = Server::new().channel();
    client.send(1, &Method::ChannelOpen {});
    client.expect_close(504, "CHANNEL_ERROR - second 'channel.open' seen");

    let mut client = Server::new().channel();
    client.send(2, &Method::TxSelect {});
    client.expect_close(504, "CHANNEL_ERROR - expected 'channel.open'");
}

#[test]
fn small_things_are_answered() {
    let mut client = Server::new().channel();
    client.send(1, &Method::ChannelFlow { active: true });
    client.expect(1, &Method::ChannelFlowOk { active: true });
    client.send(
        1,
        &Method::AccessRequest {
            realm: "/data",
            exclusive: false,
            passive: true,
            active: true,
            write: true,
            read: true,
        },
    );
    client.expect(1, &Method::AccessRequestOk { ticket: 1 });
    client.send(1, &Method::ChannelFlow { active: false });
    client.expect_close(540, "NOT_IMPLEMENTED - active=false");
}
