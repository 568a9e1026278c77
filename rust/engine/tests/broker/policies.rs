//! Policies: which one acts, what it makes of a declaration, and what changes when it does.

use std::sync::Arc;
use std::time::Duration;

use wherry_engine::AppliesTo;
use wherry_engine::Error;
use wherry_engine::ExchangeKind;
use wherry_engine::ExchangeOptions;
use wherry_engine::NewPolicy;
use wherry_engine::Outcome;
use wherry_engine::Overflow;
use wherry_engine::Queue;
use wherry_engine::QueueOptions;
use wherry_engine::properties::Properties;
use wherry_engine::table::Table;
use wherry_engine::table::Value;

use crate::world::World;
use crate::world::{bodies, consumer, drain, take, world};

pub(crate) fn policy<V: Into<Value>, const N: usize>(
    name: &str,
    pattern: &str,
    definition: [(&str, V); N],
) -> NewPolicy {
    NewPolicy {
        name: name.into(),
        pattern: pattern.into(),
        definition: Table::from_iter(definition),
        ..NewPolicy::default()
    }
}

pub(crate) fn operator(policy: NewPolicy) -> NewPolicy {
    NewPolicy {
        operator: true,
        ..policy
    }
}

fn quorum() -> QueueOptions {
    QueueOptions {
        delivery_limit: Some(20), // as a session declares it
        arguments: Table::from_iter([("x-queue-type", "quorum")]),
        ..Default::default()
    }
}

impl World {
    #[track_caller]
    pub(crate) fn set(&self, policy: NewPolicy) {
        self.host.set_policy(policy).unwrap();
    }

    pub(crate) fn clear(&self, name: &str) {
        assert!(self.host.clear_policy(name, false).unwrap().0);
    }

    fn refusal(&self, policy: NewPolicy) -> String {
        match self.host.set_policy(policy) {
            Err(Error::InvalidArgument(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    fn plain(&self, name: &str) -> Arc<Queue> {
        self.queue(name, QueueOptions::default())
    }
}

fn acting(queue: &Queue) -> (Option<String>, Option<String>) {
    let name = |policy: Option<Arc<wherry_engine::Policy>>| policy.map(|p| p.name().to_owned());
    let (policy, operator) = queue.policies();
    (name(policy), name(operator))
}

#[test]
fn of_those_that_match_the_one_with_the_highest_priority_acts_alone() {
    let w = world();
    let before = w.plain("jobs.before");
    let priority = |n, policy| NewPolicy {
        priority: n,
        ..policy
    };
    w.set(priority(1, policy("all", "", [("max-length", 10)])));
    w.set(priority(5, policy("jobs", "^jobs", [("message-ttl", 50)])));
    w.set(priority(5, policy("also", "^jobs", [("expires", 70)])));
    w.set(priority(9, policy("other", "^other", [("max-length", 1)])));
    let after = w.plain("jobs.after");
    for queue in [&before, &after] {
        assert_eq!(
            acting(queue).0.as_deref(),
            Some("also"),
            "the first by name"
        );
        let in_force = queue.in_force();
        assert_eq!(in_force.expires, Some(Duration::from_millis(70)));
        assert_eq!((in_force.message_ttl, in_force.max_length), (None, None));
        assert_eq!(queue.options(), &QueueOptions::default(), "as declared");
    }
    assert_eq!(acting(&w.plain("elsewhere")).0.as_deref(), Some("all"));
    w.clear("also");
    assert_eq!(acting(&before).0.as_deref(), Some("jobs"));
    w.set(priority(0, policy("jobs", "^jobs", [("message-ttl", 50)])));
    assert_eq!(acting(&before).0.as_deref(), Some("all"), "set anew");
    w.clear("all");
    w.clear("jobs");
    assert_eq!(acting(&before), (None, None));
    assert_eq!(*before.in_force(), QueueOptions::default());
    assert!(!w.host.clear_policy("jobs", false).unwrap().0);
}

#[test]
fn what_a_policy_applies_to_and_what_a_type_of_queue_does_not_know() {
    let w = world();
    let classic = w.plain("classic");
    let quorum = w.queue("quorum", quorum());
    let is_for = |applies_to, definition: (&str, Value)| {
        w.set(NewPolicy {
            applies_to,
            ..policy("p", "", [definition])
        });
        let acts = |queue: &Queue| acting(queue).0.is_some();
        (acts(&classic), acts(&quorum))
    };
    let length = || ("max-length", Value::I32(5));
    assert_eq!(is_for(AppliesTo::All, length()), (true, true));
    assert_eq!(is_for(AppliesTo::Queues, length()), (true, true));
    assert_eq!(is_for(AppliesTo::ClassicQueues, length()), (true, false));
    assert_eq!(is_for(AppliesTo::QuorumQueues, length()), (false, true));
    assert_eq!(is_for(AppliesTo::Exchanges, length()), (false, false));
    assert_eq!(is_for(AppliesTo::Streams, length()), (false, false));
    let limit = ("delivery-limit", Value::I32(5));
    assert_eq!(is_for(AppliesTo::All, limit), (false, true));
    let mirrored = ("ha-mode", Value::from("all"));
    assert_eq!(is_for(AppliesTo::All, mirrored), (true, false));
}

#[test]
fn of_two_numbers_the_lower_one_counts_and_of_other_settings_the_declared_one() {
    let w = world();
    let declared = QueueOptions {
        max_length: Some(10),
        message_ttl: Some(Duration::from_millis(30)),
        overflow: Overflow::RejectPublish,
        dead_letter_exchange: Some("mine".into()),
        ..Default::default()
    };
    let q = w.queue("q", declared.clone());
    w.set(policy(
        "p",
        "^q$",
        [
            ("max-length", Value::I64(20)),
            ("message-ttl", Value::I64(20)),
            ("max-length-bytes", Value::I64(1000)),
            ("overflow", Value::from("reject-publish-dlx")),
            ("dead-letter-exchange", Value::from("theirs")),
            ("dead-letter-routing-key", Value::from("key")),
        ],
    ));
    let ms = Duration::from_millis;
    assert_eq!(
        *q.in_force(),
        QueueOptions {
            message_ttl: Some(ms(20)),
            max_length_bytes: Some(1000),
            dead_letter_routing_key: Some("key".into()),
            ..declared
        }
    );
    w.set(operator(policy(
        "o",
        "",
        [("max-length", 5), ("message-ttl", 25)],
    )));
    assert_eq!(q.in_force().max_length, Some(5));
    assert_eq!(q.in_force().message_ttl, Some(ms(20)));
    let defined = q.policy_definition();
    assert_eq!(defined.get("max-length"), Some(&Value::I32(5)));
    assert_eq!(defined.get("message-ttl"), Some(&Value::I64(20)));
    assert_eq!(acting(&q), (Some("p".into()), Some("o".into())));
    w.host.clear_policy("o", true).unwrap();
    assert_eq!(q.in_force().max_length, Some(10));
    // Declaring it again as it was declared is no conflict, whatever policies made of it.
    let again = q.options().clone();
    w.host.declare_queue("q", again).unwrap();
}

#[test]
fn a_quorum_queues_own_limit_of_deliveries_counts_until_somebody_asks_for_one() {
    let w = world();
    let by_default = w.queue("default", quorum());
    let asked = w.queue("asked", {
        let mut options = quorum();
        options.arguments.insert("x-delivery-limit", Value::I32(20));
        options
    });
    w.set(policy("p", "", [("max-length", 100)]));
    assert_eq!(by_default.in_force().delivery_limit, Some(20));
    w.set(policy("p", "", [("delivery-limit", 50)]));
    assert_eq!(by_default.in_force().delivery_limit, Some(50));
    assert_eq!(asked.in_force().delivery_limit, Some(20));
    w.set(policy("p", "", [("retry-attempts", 3)]));
    assert_eq!(by_default.in_force().delivery_limit, None);
    assert_eq!(asked.in_force().delivery_limit, Some(20));
}

#[test]
fn a_shorter_length_drops_the_oldest_at_once() {
    let w = world();
    let dead = w.plain("dead");
    let q = w.plain("q");
    for n in 0..5 {
        w.publish("", "q", &n.to_string());
    }
    w.set(policy(
        "p",
        "^q$",
        [
            ("max-length", Value::I32(2)),
            ("dead-letter-exchange", Value::from("")),
            ("dead-letter-routing-key", Value::from("dead")),
        ],
    ));
    assert_eq!(drain(&dead), ["0", "1", "2"]);
    w.publish("", "q", "5");
    assert_eq!(drain(&q), ["4", "5"]);
    w.set(policy(
        "p",
        "^q$",
        [
            ("max-length", Value::I32(1)),
            ("overflow", Value::from("reject-publish")),
        ],
    ));
    w.publish("", "q", "6");
    let exchange = w.host.exchange("").unwrap();
    let full = exchange.publish(&wherry_engine::NewMessage::new("q", b"7"));
    assert!(matches!(full, Err(Error::PublishRejected { .. })));
    w.clear("p");
    w.publish("", "q", "8");
    assert_eq!(drain(&q), ["6", "8"]);
}

#[test]
fn a_time_to_live_holds_for_what_waits_already() {
    let w = world();
    let q = w.plain("q");
    w.publish("", "q", "0");
    w.advance(50);
    w.publish("", "q", "1");
    let own = Properties {
        expiration: Some("300".into()),
        ..Properties::default()
    };
    w.publish_with("q", "own", &own);
    w.set(policy("p", "", [("message-ttl", 80)]));
    w.advance(29);
    assert_eq!(q.message_count(), 3);
    w.advance(1);
    assert_eq!(q.message_count(), 2, "counted from when it was published");
    w.advance(49);
    assert_eq!(q.message_count(), 2);
    w.set(policy("p", "", [("message-ttl", 100)]));
    w.advance(20);
    assert_eq!(q.message_count(), 2, "it was given more time");
    w.advance(1);
    assert_eq!(q.message_count(), 0);

    w.publish("", "q", "2");
    w.publish_with("q", "own", &own);
    w.advance(90);
    w.clear("p");
    w.advance(200);
    assert_eq!(q.message_count(), 2);
    w.advance(10);
    assert_eq!(drain(&q), ["2"], "its own time to live is there again");
    w.publish("", "q", "3");
    w.advance(1000);
    w.set(policy("p", "", [("message-ttl", 5)]));
    assert_eq!(q.message_count(), 0, "over already");
}

#[test]
fn an_unused_queue_goes_when_the_time_of_the_policy_is_over() {
    let w = world();
    w.plain("q");
    w.advance(1000);
    w.set(policy("p", "", [("expires", 100)]));
    w.advance(60);
    w.set(policy("p", "", [("expires", 200)]));
    w.advance(60);
    assert!(
        w.host.queue("q").is_ok(),
        "the first time is no more in force"
    );
    w.set(policy("p", "", [("expires", 100)]));
    w.advance(99);
    assert!(w.host.queue("q").is_ok(), "it begins with the policy");
    w.advance(1);
    assert!(w.host.queue("q").is_err());

    w.plain("r");
    w.advance(50);
    w.clear("p");
    w.advance(1000);
    assert!(w.host.queue("r").is_ok());
}

#[test]
fn failed_attempts_are_judged_by_what_is_in_force_then() {
    let w = world();
    let q = w.plain("q");
    w.publish("", "q", "m");
    let c = consumer(&q, 0);
    let fail = || {
        let delivery = take(&c, 1).pop().expect("it is ready");
        let requeue = Outcome::Reject { requeue: true };
        c.settle(delivery.tag, false, requeue).unwrap();
    };
    fail();
    assert!(!q.counts_attempts());
    w.set(policy(
        "p",
        "",
        [
            ("retry-attempts", Value::I32(3)),
            ("retry-kind", Value::from("constant")),
            ("retry-first", Value::I32(100)),
            ("lease", Value::I32(500)),
        ],
    ));
    assert!(q.counts_attempts() && q.has_lease());
    fail();
    assert!(take(&c, 1).is_empty(), "it waits");
    w.advance(100);
    assert_eq!(bodies(&take(&c, 1)), ["m"]);
    w.advance(500);
    assert_eq!(q.statistics().dropped, 1, "the lease was the third attempt");
}

#[test]
fn an_alternate_exchange_comes_and_goes() {
    let w = world();
    w.exchange("x", ExchangeKind::Direct);
    w.exchange("rest", ExchangeKind::Fanout);
    let rest = w.plain("rest");
    w.bind("rest", "rest", "");
    let set = |applies_to| {
        w.set(NewPolicy {
            applies_to,
            ..policy("p", "^x$", [("alternate-exchange", "rest")])
        });
    };
    assert_eq!(w.publish("x", "key", "0"), 0);
    set(AppliesTo::All);
    assert_eq!(
        w.publish("x", "key", "1"),
        1,
        "no cached route is in the way"
    );
    set(AppliesTo::Queues);
    assert_eq!(w.publish("x", "key", "2"), 0);
    set(AppliesTo::Exchanges);
    assert_eq!(w.publish("x", "key", "3"), 1);
    assert_eq!(w.publish("", "nowhere", "4"), 0);
    let x = w.host.exchange("x").unwrap();
    assert_eq!(x.policy().unwrap().name(), "p");
    w.clear("p");
    assert_eq!(w.publish("x", "key", "5"), 0);
    assert_eq!(drain(&rest), ["1", "3"]);
    let own = ExchangeOptions {
        alternate_exchange: Some("nowhere".into()),
        ..Default::default()
    };
    w.host.declare_exchange("own", own).unwrap();
    w.set(policy("p", "", [("alternate-exchange", "rest")]));
    assert_eq!(w.publish("own", "key", "6"), 0, "the declared one counts");
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let w = world();
    let q = w.plain("q");
    w.set(policy("p", "", [("max-length", 5)]));
    let mut long = policy("p", "", [("max-length", 1)]);
    long.name = "n".repeat(256);
    for (new, part) in [
        (policy("p", "(", [("max-length", 1)]), "invalid pattern"),
        (policy("", "", [("max-length", 1)]), "cannot be empty"),
        (long, "256"),
        (
            policy("p", "", [("max-lenght", 1)]),
            "'max-lenght': there is no such setting",
        ),
        (
            policy("p", "", [("max-length", -1)]),
            "a whole number from 0",
        ),
        (policy("p", "", [("max-length", "many")]), "a whole number"),
        (policy("p", "", [("expires", 0)]), "a whole number from 1"),
        (policy("p", "", [("overflow", "spill")]), "unknown overflow"),
        (
            policy("p", "", [("dead-letter-exchange", 5)]),
            "a text is expected",
        ),
        (
            policy("p", "", [("retry-first", 5)]),
            "it needs retry-attempts",
        ),
        (policy::<i32, 0>("p", "", []), "it is empty"),
        (
            operator(policy("p", "", [("dead-letter-exchange", "x")])),
            "no setting of an operator policy",
        ),
    ] {
        let text = w.refusal(new);
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(w.host.policies().len(), 1);
    assert_eq!(q.in_force().max_length, Some(5));
    let (set, _) = w
        .host
        .set_policy(policy("h", "", [("ha-mode", "all")]))
        .unwrap();
    assert!(
        set.notes()[0].contains("there is one node"),
        "{:?}",
        set.notes()
    );
}
