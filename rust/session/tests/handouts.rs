//! Delivery tags of a channel: against a plain map, and their bound on memory.

use std::collections::BTreeMap;

use proptest::prelude::*;
use wherry_session::{Handout, Handouts, Settled, SettledList, UnknownTag};

#[derive(Clone, Debug)]
enum Step {
    Push(u32),
    Skip,
    Settle(u64, bool),
    Withdraw(u64, bool),
    PutBack,
    Forget,
    Drain,
}

fn step() -> impl Strategy<Value = Step> {
    // Tags are drawn near those that exist: 0 to 60 of which 40 steps can hand out about half.
    prop_oneof![
        8 => (0u32..24).prop_map(Step::Push),
        1 => Just(Step::Skip),
        4 => (0u64..60).prop_map(|tag| Step::Settle(tag, false)),
        2 => (0u64..60).prop_map(|tag| Step::Settle(tag, true)),
        1 => ((0u64..60), any::<bool>()).prop_map(|(tag, multiple)| Step::Withdraw(tag, multiple)),
        1 => Just(Step::PutBack),
        1 => Just(Step::Forget),
        1 => Just(Step::Drain),
    ]
}

/// What is outstanding: consumer and its tag by delivery tag.
#[derive(Default)]
struct Model {
    next: u64,
    outstanding: BTreeMap<u64, (u32, u64)>,
    consumer_tags: BTreeMap<u32, u64>,
}

impl Model {
    fn covered(&self, tag: u64, multiple: bool) -> Result<Vec<u64>, UnknownTag> {
        if multiple && tag == 0 {
            return Ok(self.outstanding.keys().copied().collect());
        }
        if !self.outstanding.contains_key(&tag) {
            return Err(UnknownTag(tag));
        }
        Ok(match multiple {
            true => self.outstanding.range(..=tag).map(|(&t, _)| t).collect(),
            false => vec![tag],
        })
    }

    /// Removes them; what each consumer is told, in order of consumers.
    fn remove(&mut self, tags: &[u64], multiple: bool) -> Vec<Settled> {
        let mut highest = BTreeMap::new();
        for tag in tags {
            let (consumer, own) = self.outstanding.remove(tag).unwrap();
            highest.insert(consumer, own);
        }
        highest
            .into_iter()
            .map(|(consumer, tag)| Settled {
                consumer,
                tag,
                multiple,
            })
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn tags_are_those_of_a_plain_map(steps in proptest::collection::vec(step(), 1..120)) {
        let mut handouts = Handouts::new();
        let mut model = Model { next: 1, ..Model::default() };
        let mut held: Vec<Handout> = Vec::new();
        for step in steps {
            match step {
                Step::Push(consumer) => {
                    let own = model.consumer_tags.entry(consumer).or_insert(0);
                    *own += 1 + u64::from(consumer % 3);
                    prop_assert_eq!(handouts.push(consumer, *own), model.next);
                    model.outstanding.insert(model.next, (consumer, *own));
                    model.next += 1;
                }
                Step::Skip => {
                    prop_assert_eq!(handouts.skip(), model.next);
                    model.next += 1;
                }
                Step::Settle(tag, multiple) => {
                    let mut out = SettledList::new();
                    let count = handouts.settle(tag, multiple, &mut out);
                    match model.covered(tag, multiple) {
                        Err(unknown) => {
                            prop_assert_eq!(count, Err(unknown));
                            prop_assert!(out.is_empty());
                        }
                        Ok(tags) => {
                            prop_assert_eq!(count, Ok(tags.len() as u32));
                            out.sort_by_key(|settled| settled.consumer);
                            prop_assert_eq!(out.to_vec(), model.remove(&tags, multiple));
                        }
                    }
                }
                Step::Withdraw(tag, multiple) => {
                    let mut out = Vec::new();
                    let count = handouts.withdraw(tag, multiple, &mut out);
                    match model.covered(tag, multiple) {
                        Err(unknown) => prop_assert_eq!(count, Err(unknown)),
                        Ok(tags) => {
                            prop_assert_eq!(count, Ok(tags.len()));
                            let listed: Vec<u64> = out.iter().map(|h| h.delivery_tag).collect();
                            prop_assert_eq!(&listed, &tags);
                            for handout in &out {
                                let there = model.outstanding.remove(&handout.delivery_tag);
                                prop_assert_eq!(there, Some((handout.consumer, handout.tag)));
                            }
                        }
                    }
                    held.extend(out);
                }
                Step::PutBack => {
                    handouts.put_back(&held);
                    for handout in held.drain(..) {
                        model.outstanding.insert(handout.delivery_tag, (handout.consumer, handout.tag));
                    }
                }
                Step::Forget => held.clear(),
                Step::Drain => {
                    let mut out = SettledList::new();
                    let tags = model.covered(0, true).unwrap();
                    prop_assert_eq!(handouts.drain(&mut out), tags.len());
                    out.sort_by_key(|settled| settled.consumer);
                    prop_assert_eq!(out.to_vec(), model.remove(&tags, true));
                }
            }
            prop_assert_eq!(handouts.live(), model.outstanding.len());
            let mut busy: Vec<u32> = handouts.consumers().collect();
            busy.sort_unstable();
            let mut expected: Vec<u32> = model.outstanding.values().map(|&(c, _)| c).collect();
            expected.sort_unstable();
            for &consumer in &busy {
                let count = expected.iter().filter(|&&c| c == consumer).count();
                prop_assert_eq!(handouts.live_of(consumer), count);
            }
            expected.dedup();
            prop_assert_eq!(busy, expected);
        }
    }
}

#[test]
fn an_answer_is_appended_to_what_is_there() {
    let mut handouts = Handouts::new();
    for n in 1..=3 {
        handouts.push(7, n);
    }
    let mut out = SettledList::new();
    handouts.settle(1, false, &mut out).unwrap();
    handouts.settle(3, true, &mut out).unwrap();
    let settled = |tag, multiple| Settled {
        consumer: 7,
        tag,
        multiple,
    };
    assert_eq!(out.as_slice(), [settled(1, false), settled(3, true)]);
}

#[test]
fn one_delivery_that_is_never_settled_keeps_nothing_but_itself() {
    let mut handouts = Handouts::new();
    let mut out = SettledList::new();
    handouts.push(0, 1);
    for n in 2..200_000 {
        let tag = handouts.push(1, n);
        handouts.settle(tag, false, &mut out).unwrap();
        out.clear();
    }
    assert_eq!(handouts.live(), 1);
    assert!(
        handouts.heap_bytes() < 64 << 10,
        "{}",
        handouts.heap_bytes()
    );
    assert_eq!(handouts.settle(1, false, &mut out), Ok(1));
}

#[test]
fn a_burst_gives_its_memory_back() {
    let mut handouts = Handouts::new();
    for n in 1..=100_000 {
        handouts.push(1, n);
    }
    let mut out = SettledList::new();
    handouts.settle(0, true, &mut out).unwrap();
    assert!(
        handouts.heap_bytes() < 64 << 10,
        "{}",
        handouts.heap_bytes()
    );
}

#[test]
fn very_many_consumers_are_settled_with_one_answer_each() {
    let mut handouts = Handouts::new();
    for round in 1..=3 {
        for consumer in 0..5000 {
            handouts.push(consumer, round);
        }
    }
    let mut out = SettledList::new();
    assert_eq!(handouts.settle(0, true, &mut out), Ok(15_000));
    assert_eq!(out.len(), 5000);
    assert!(out.iter().all(|settled| settled.tag == 3));
}
