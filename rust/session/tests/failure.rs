//! The engine's errors and the limits as a peer and an operator read them.

use wherry_engine::{Broker, BrokerOptions, Error, MESSAGE_BYTES_MAX, QueueOptions};
use wherry_session::{Failure, FailureKind, Limits};

#[test]
fn every_error_of_the_engine_has_a_kind_and_rabbitmqs_words() {
    use FailureKind::*;
    let name = || "n".to_owned();
    let virtual_host = || "/".to_owned();
    for (error, kind, text) in [
        (
            Error::UnknownExchange {
                name: name(),
                virtual_host: virtual_host(),
            },
            NotFound,
            "no exchange 'n' in vhost '/'",
        ),
        (
            Error::UnknownQueue {
                name: name(),
                virtual_host: virtual_host(),
            },
            NotFound,
            "no queue 'n' in vhost '/'",
        ),
        (
            Error::UnknownVirtualHost { name: name() },
            NotAllowed,
            "vhost n not found",
        ),
        (
            Error::UnknownDelivery { tag: 7 },
            PreconditionFailed,
            "unknown delivery tag 7",
        ),
        (
            Error::PreconditionFailed("queue 'q' in vhost '/' in use".into()),
            PreconditionFailed,
            "queue 'q' in vhost '/' in use",
        ),
        (
            Error::InvalidArgument("routing key of 300 bytes: the limit is 255".into()),
            PreconditionFailed,
            "routing key of 300 bytes: the limit is 255",
        ),
        (
            Error::MessageTooLarge {
                bytes: 17_000_000,
                bytes_max: 16_777_216,
            },
            PreconditionFailed,
            "message size 17000000 is larger than configured max size 16777216",
        ),
        (Error::AccessRefused("no".into()), AccessRefused, "no"),
        (Error::ResourceLocked("no".into()), ResourceLocked, "no"),
        (
            Error::Closed,
            ConnectionForced,
            "broker forced connection closure with reason 'shutdown'",
        ),
    ] {
        assert_eq!(Failure::from(error), Failure::new(kind, text));
    }
    for (error, kind) in [
        (Error::Busy, ResourceError),
        (Error::DiskFull("x".into()), ResourceError),
        (Error::NoSegment("x".into()), ResourceError),
        (Error::JournalFailed("x".into()), InternalError),
        (Error::JournalCorrupt("x".into()), InternalError),
        (Error::DirectoryLocked("x".into()), InternalError),
        (Error::Io("x".into()), InternalError),
        (Error::PublishRejected { queue: name() }, PreconditionFailed),
        (
            Error::Unroutable {
                exchange: name(),
                routing_key: name(),
            },
            PreconditionFailed,
        ),
    ] {
        assert_eq!(Failure::from(error).kind, kind);
    }
}

#[test]
fn advice_for_programs_is_not_sent_to_peers() {
    let broker = Broker::open(BrokerOptions::default()).unwrap();
    let host = broker.virtual_host("/").unwrap();
    host.declare_queue("q", QueueOptions::default()).unwrap();
    let other = QueueOptions {
        durable: false,
        ..QueueOptions::default()
    };
    let failure = Failure::from(host.declare_queue("q", other).unwrap_err());
    assert_eq!(failure.kind, FailureKind::PreconditionFailed);
    assert_eq!(
        failure.to_string(),
        "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'"
    );
}

#[test]
fn only_five_kinds_leave_the_connection_open() {
    use FailureKind::*;
    for kind in [
        NotFound,
        AccessRefused,
        ResourceLocked,
        PreconditionFailed,
        ContentTooLarge,
    ] {
        assert!(!kind.ends_connection(), "{kind:?}");
    }
    for kind in [
        NotAllowed,
        NotImplemented,
        ResourceError,
        SyntaxError,
        CommandInvalid,
        ChannelError,
        UnexpectedFrame,
        FrameError,
        InvalidPath,
        ConnectionForced,
        InternalError,
    ] {
        assert!(kind.ends_connection(), "{kind:?}");
    }
}

#[test]
fn limits_that_cannot_work_are_refused_by_name() {
    assert_eq!(Limits::default().validate(), Ok(()));
    type Change = fn(&mut Limits);
    let good: [Change; 4] = [
        |l| l.frame_max = 0,
        |l| l.frame_max = 4096,
        |l| l.message_bytes_max = MESSAGE_BYTES_MAX as u64,
        |l| l.table_depth_max = 1,
    ];
    for change in good {
        let mut limits = Limits::default();
        change(&mut limits);
        assert_eq!(limits.validate(), Ok(()));
    }
    let bad: [(&str, Change); 5] = [
        ("frame_max", |l| l.frame_max = 4095),
        ("message_bytes_max", |l| {
            l.message_bytes_max = MESSAGE_BYTES_MAX as u64 + 1;
        }),
        ("table_depth_max", |l| l.table_depth_max = 0),
        ("table_depth_max", |l| l.table_depth_max = 33),
        ("handshake_seconds", |l| l.handshake_seconds = 0),
    ];
    for (name, change) in bad {
        let mut limits = Limits::default();
        change(&mut limits);
        let text = limits.validate().unwrap_err();
        assert!(text.starts_with(name), "{text}");
    }
}
