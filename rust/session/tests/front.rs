//! What all sessions of a server share: who is let in, permissions through it, alarms, owners.

use std::sync::Arc;

use wherry_engine::{Broker, BrokerOptions};
use wherry_session::{
    AccessTable, AccessTableBuilder, Action, Alarms, FailureKind, FrontEnd, Identity, Limits,
    Resource, UserLimits, VirtualHostLimits,
};

fn front(limits: Limits, fill: impl FnOnce(&mut AccessTableBuilder)) -> Arc<FrontEnd> {
    let broker = Broker::open(BrokerOptions::default()).unwrap();
    let front = FrontEnd::new(broker, limits, Identity::default());
    let mut builder = AccessTable::builder();
    fill(&mut builder);
    front.set_access(builder.build());
    front
}

fn refused<T: std::fmt::Debug>(result: Result<T, wherry_session::Failure>) -> String {
    let failure = result.unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotAllowed);
    failure.text
}

#[test]
fn connections_are_limited_in_all_and_counted_until_they_end() {
    let limits = Limits {
        connections_max: 2,
        ..Limits::default()
    };
    let front = front(limits, |_| {});
    let first = front.admit("a", "/").unwrap();
    let _second = front.admit("b", "/").unwrap();
    assert_eq!(
        refused(front.admit("c", "/")),
        "connection refused: node connection limit (2) is reached"
    );
    drop(first);
    assert_eq!(front.connections(), 1);
    front.admit("c", "/").unwrap();
}

#[test]
fn a_user_and_a_virtual_host_have_limits_of_their_own() {
    let front = front(Limits::default(), |table| {
        let one = Some(1);
        table.user_limits(
            "u",
            UserLimits {
                connections_max: one,
                ..UserLimits::default()
            },
        );
        table.virtual_host_limits(
            "v",
            VirtualHostLimits {
                connections_max: one,
                queues_max: Some(3),
            },
        );
    });
    let held = front.admit("u", "/").unwrap();
    assert_eq!(
        refused(front.admit("u", "/")),
        "connection refused for user 'u': user connection limit (1) is reached"
    );
    let _other = front.admit("other", "/").unwrap();
    drop(held);
    let _again = front.admit("u", "v").unwrap();
    assert_eq!(
        refused(front.admit("other", "v")),
        "access to vhost 'v' refused for user 'other': connection limit (1) is reached"
    );
    assert!(front.check_queue_room("v", "q", || 2).is_ok());
    assert!(
        front
            .check_queue_room("/", "q", || unreachable!("no limit"))
            .is_ok()
    );
    let failure = front.check_queue_room("v", "q", || 3).unwrap_err();
    assert_eq!(failure.kind, FailureKind::PreconditionFailed);
    assert_eq!(
        failure.text,
        "cannot declare queue 'q': queue limit in vhost 'v' (3) is reached"
    );
}

#[test]
fn the_servers_limits_hold_where_none_is_set() {
    let limits = Limits {
        connections_per_user_max: 1,
        connections_per_virtual_host_max: 2,
        queues_per_virtual_host_max: 4,
        ..Limits::default()
    };
    let front = front(limits, |table| {
        let more = UserLimits {
            connections_max: Some(9),
            ..UserLimits::default()
        };
        table.user_limits("many", more);
    });
    let _one = front.admit("u", "/").unwrap();
    assert!(refused(front.admit("u", "/")).contains("user connection limit (1)"));
    let _two = front.admit("many", "/").unwrap();
    assert!(refused(front.admit("many", "/")).contains("connection limit (2)"));
    let _three = front.admit("many", "other").unwrap();
    assert!(front.check_queue_room("/", "q", || 4).is_err());
}

#[test]
fn channels_of_a_user_count_over_its_connections() {
    let front = front(Limits::default(), |table| {
        let two = UserLimits {
            channels_max: Some(2),
            ..UserLimits::default()
        };
        table.user_limits("u", two);
    });
    let (a, b) = (
        front.admit("u", "/").unwrap(),
        front.admit("u", "/").unwrap(),
    );
    let first = a.open_channel().unwrap();
    let _second = b.open_channel().unwrap();
    assert_eq!(
        refused(a.open_channel()),
        "number of channels opened for user 'u' has reached the maximum allowed user limit of (2)"
    );
    drop((a, first)); // in whatever order
    let _third = b.open_channel().unwrap();
    let other = front.admit("other", "/").unwrap();
    let _many: Vec<_> = (0..10).map(|_| other.open_channel().unwrap()).collect();
}

#[test]
fn refusals_are_worded_as_in_rabbitmq() {
    let front = front(Limits::default(), |table| {
        table
            .permission("u", "/", "^mine", "^mine", "^mine")
            .unwrap();
        table.permission("t", "/", ".*", ".*", ".*").unwrap();
        table
            .topic_permission("t", "/", "amq.topic", "^a", "^{username}")
            .unwrap();
    });
    let access = front.access_for("u", "/");
    let text = |action, resource| {
        let failure = access.check(action, resource).unwrap_err();
        assert_eq!(failure.kind, FailureKind::AccessRefused);
        failure.text
    };
    assert_eq!(
        text(Action::Configure, Resource::Queue("other")),
        "access to queue 'other' in vhost '/' refused for user 'u'"
    );
    assert_eq!(
        text(Action::Configure, Resource::Exchange("other")),
        "access to exchange 'other' in vhost '/' refused for user 'u'"
    );
    assert_eq!(
        text(Action::Write, Resource::Exchange("")),
        "access to exchange 'amq.default' in vhost '/' refused for user 'u'"
    );
    assert!(
        access
            .check(Action::Read, Resource::Queue("mine.a"))
            .is_ok()
    );

    let access = front.access_for("t", "/");
    assert_eq!(
        access
            .check_topic(Action::Write, "amq.topic", "b")
            .unwrap_err()
            .text,
        "access to topic 'b' in exchange 'amq.topic' in vhost '/' refused for user 't'"
    );
    assert!(access.check_topic(Action::Write, "amq.topic", "ab").is_ok());
    assert!(access.check_topic(Action::Read, "amq.topic", "t.x").is_ok());
    assert!(access.check_topic(Action::Read, "amq.topic", "zz").is_err());
    assert!(access.check_topic(Action::Read, "another", "zz").is_ok());
}

#[test]
fn who_has_no_permission_may_not_enter() {
    let front = front(Limits::default(), |table| {
        table.user("u", ["administrator"]);
        table.permission("u", "/", "", "", "").unwrap();
        assert!(table.permission("u", "v", "(", "", "").is_err());
        assert!(
            table
                .topic_permission("u", "/", "e", "{username}(", "")
                .is_err()
        );
    });
    let table = front.access();
    assert!(table.may_enter("u", "/"));
    assert!(!table.may_enter("u", "v") && !table.may_enter("other", "/"));
    assert!(table.knows("u") && !table.knows("other"));
    let access = front.access_for("u", "/");
    assert!(access.has_tag("administrator") && !access.has_tag("monitoring"));
    assert!(access.check(Action::Read, Resource::Queue("q")).is_err());
    let nobody = front.access_for("other", "/");
    assert!(nobody.check(Action::Read, Resource::Queue("")).is_err());
}

#[test]
fn alarms_and_owners() {
    let front = front(Limits::default(), |_| {});
    assert!(!front.alarms().any());
    for memory in [false, true] {
        for disk in [false, true] {
            front.set_alarms(Alarms { memory, disk });
            assert_eq!(front.alarms(), Alarms { memory, disk });
            assert_eq!(front.alarms().any(), memory || disk);
        }
    }
    let owners: Vec<_> = (0..3).map(|_| front.next_owner()).collect();
    assert!(owners.is_sorted_by(|a, b| a < b) && owners[0] > 1);
    front.counters().published.add(2);
    front.counters().published.add(3);
    assert_eq!(front.counters().published.get(), 5);
}

#[test]
fn mechanisms_are_offered_as_configured() {
    let offered = |mechanisms: &[&str], has_certificate| {
        let mechanisms = mechanisms.iter().map(ToString::to_string).collect();
        let identity = Identity {
            mechanisms,
            ..Identity::default()
        };
        let names: Vec<&str> = identity.mechanisms_for(has_certificate).collect();
        names.join(" ")
    };
    assert_eq!(offered(&["AMQPLAIN", "PLAIN"], true), "AMQPLAIN PLAIN");
    let all = ["PLAIN", "EXTERNAL", "AMQPLAIN"];
    assert_eq!(offered(&all, true), "EXTERNAL PLAIN AMQPLAIN");
    assert_eq!(offered(&all, false), "PLAIN AMQPLAIN");
    assert_eq!(offered(&["EXTERNAL"], false), "");
}
