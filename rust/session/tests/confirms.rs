//! Confirms of a channel: every publish is answered once, with the right verdict, in as few answers as may be.

use std::collections::BTreeMap;

use proptest::prelude::*;
use wherry_engine::Ticket;
use wherry_session::{Confirm, Confirms, Verdict};

fn settle(confirms: &mut Confirms, durable: u64) -> Vec<Confirm> {
    let mut out = Vec::new();
    confirms.settle(Ticket(durable), &mut |confirm| out.push(confirm));
    out
}

fn confirm(verdict: Verdict, tag: u64, multiple: bool) -> Confirm {
    Confirm {
        verdict,
        tag,
        multiple,
    }
}

use Verdict::{Ack, Nack};

#[derive(Clone, Debug)]
enum Step {
    /// Takes a number, with no result yet.
    Open,
    /// Gives the `n`th open number a ticket.
    Published(usize, u64),
    Refused(usize),
    Settle(u64),
    Fail,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Open),
        6 => (0usize..4, 0u64..20).prop_map(|(n, ticket)| Step::Published(n, ticket)),
        1 => (0usize..4).prop_map(Step::Refused),
        3 => (0u64..20).prop_map(Step::Settle),
        1 => Just(Step::Fail),
    ]
}

/// What a publish waits for, by number, until it is answered.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    Open,
    After(u64),
    Refused,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_publish_is_answered_once(steps in proptest::collection::vec(step(), 1..100)) {
        let mut confirms = Confirms::new();
        let mut pending: BTreeMap<u64, Expected> = BTreeMap::new();
        let mut numbers = 0;
        let mut base = 0; // tickets grow in the long run, so that old ones become durable
        for step in steps {
            let nth_open = |pending: &BTreeMap<u64, Expected>, n: usize| {
                pending.iter().filter(|(_, e)| **e == Expected::Open).map(|(&t, _)| t).nth(n)
            };
            match step {
                Step::Open => {
                    numbers += 1;
                    prop_assert_eq!(confirms.next(), numbers);
                    pending.insert(numbers, Expected::Open);
                }
                Step::Published(n, ticket) => {
                    if let Some(number) = nth_open(&pending, n) {
                        let ticket = if ticket < 4 { 0 } else { base + ticket };
                        confirms.published(number, Ticket(ticket));
                        confirms.published(number, Ticket(99_999)); // without effect
                        pending.insert(number, Expected::After(ticket));
                    }
                }
                Step::Refused(n) => {
                    if let Some(number) = nth_open(&pending, n) {
                        confirms.refused(number);
                        pending.insert(number, Expected::Refused);
                    }
                }
                Step::Settle(ahead) => {
                    let durable = base + ahead;
                    base += ahead / 4;
                    let mut out = Vec::new();
                    let count = confirms.settle(Ticket(durable), &mut |c| out.push(c));
                    let mut answered = 0;
                    for confirm in out {
                        let first = if confirm.multiple { 0 } else { confirm.tag };
                        let covered: Vec<u64> = pending.range(first..=confirm.tag).map(|(&t, _)| t).collect();
                        prop_assert!(!covered.is_empty(), "{confirm:?} answers nothing");
                        prop_assert_eq!(confirm.multiple, covered.len() > 1);
                        answered += covered.len();
                        for number in covered {
                            match (pending.remove(&number).unwrap(), confirm.verdict) {
                                (Expected::After(ticket), Ack) => prop_assert!(ticket <= durable),
                                (Expected::Refused, Nack) => {}
                                (expected, verdict) => prop_assert!(false, "{number}: {expected:?} got {verdict:?}"),
                            }
                        }
                    }
                    prop_assert_eq!(count, answered);
                    for (number, expected) in &pending {
                        let due = matches!(expected, Expected::Refused)
                            || matches!(expected, Expected::After(ticket) if *ticket <= durable);
                        prop_assert!(!due, "{number} is due and has no answer");
                    }
                }
                Step::Fail => {
                    confirms.fail_waiting();
                    for expected in pending.values_mut() {
                        if matches!(expected, Expected::After(ticket) if *ticket > 0) {
                            *expected = Expected::Refused;
                        }
                    }
                    prop_assert!(!confirms.waits_for_disk());
                }
            }
            prop_assert_eq!(confirms.unconfirmed(), pending.len());
            let waits = pending.values().any(|e| matches!(e, Expected::After(t) if *t > 0));
            prop_assert_eq!(confirms.waits_for_disk(), waits);
        }
    }
}

#[test]
fn neighbours_become_one_answer() {
    let mut confirms = Confirms::new();
    for ticket in 1..=5 {
        let number = confirms.next();
        confirms.published(number, Ticket(ticket * 10));
    }
    assert_eq!(settle(&mut confirms, 9), []);
    assert_eq!(settle(&mut confirms, 10), [confirm(Ack, 1, false)]);
    assert_eq!(settle(&mut confirms, 45), [confirm(Ack, 4, true)]);
    assert_eq!(settle(&mut confirms, 45), []);
    assert_eq!(settle(&mut confirms, 50), [confirm(Ack, 5, false)]);
    assert_eq!(confirms.unconfirmed(), 0);
}

#[test]
fn a_nack_parts_the_acks_around_it() {
    let mut confirms = Confirms::new();
    for number in 1..=6 {
        confirms.next();
        if number == 3 || number == 4 {
            confirms.refused(number);
        } else {
            confirms.published(number, Ticket::NONE);
        }
    }
    let expected = [
        confirm(Ack, 2, true),
        confirm(Nack, 4, true),
        confirm(Ack, 6, true),
    ];
    assert_eq!(settle(&mut confirms, 0), expected);
}

#[test]
fn what_waits_for_no_disk_does_not_wait_behind_what_does() {
    let mut confirms = Confirms::new();
    for ticket in [7, 0, 0] {
        let number = confirms.next();
        confirms.published(number, Ticket(ticket));
    }
    let alone = [confirm(Ack, 2, false), confirm(Ack, 3, false)];
    assert_eq!(settle(&mut confirms, 6), alone);
    assert_eq!(confirms.unconfirmed(), 1);
    // The later two have their answer: `multiple` would say it twice.
    assert_eq!(settle(&mut confirms, 7), [confirm(Ack, 1, false)]);
}

#[test]
fn selecting_again_changes_nothing() {
    let mut confirms = Confirms::new();
    assert!(!confirms.is_selected());
    confirms.select();
    assert_eq!(confirms.next(), 1);
    confirms.select();
    assert_eq!(confirms.next(), 2);
    assert!(confirms.is_selected());
}

#[test]
fn numbers_that_are_none_are_without_effect() {
    let mut confirms = Confirms::new();
    confirms.published(0, Ticket::NONE);
    confirms.refused(1);
    assert_eq!(confirms.next(), 1);
    confirms.published(2, Ticket(1));
    assert_eq!(settle(&mut confirms, 100), []);
    assert_eq!(confirms.unconfirmed(), 1);
}

#[test]
fn a_burst_gives_its_memory_back() {
    let mut confirms = Confirms::new();
    for ticket in 1..=200_000 {
        let number = confirms.next();
        confirms.published(number, Ticket(ticket));
    }
    let all = [confirm(Ack, 200_000, true)];
    assert_eq!(settle(&mut confirms, 200_000), all);
    assert!(
        confirms.heap_bytes() < 256 << 10,
        "{}",
        confirms.heap_bytes()
    );
}
