//! Message groups against a naive model, compared after each step.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use proptest::prelude::*;
use wherry_queues::groups::{GroupLease, GroupState, Groups};

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Claimed,
    There,
    Leased,
}

#[derive(Clone, Debug)]
struct Message {
    key: Option<u64>,
    value: u64,
    note: u32,
    state: State,
}

/// All unsettled messages by position; everything else is looked for in them.
#[derive(Default)]
struct Model {
    messages: BTreeMap<u64, Message>,
    next: u64,
}

impl Model {
    fn is_head(&self, position: u64) -> bool {
        let key = self.messages[&position].key;
        key.is_none()
            || !self
                .messages
                .range(..position)
                .any(|(_, message)| message.key == key)
    }

    /// What a take would hand out, in order.
    fn ready(&self) -> Vec<u64> {
        let mut seen = BTreeSet::new();
        let heads = self
            .messages
            .iter()
            .filter(|(_, message)| message.key.is_none_or(|key| seen.insert(key)));
        heads
            .filter(|(_, message)| message.state == State::There)
            .map(|(&position, _)| position)
            .collect()
    }

    fn there(&self) -> Vec<(u64, u32, u64)> {
        let there = self
            .messages
            .iter()
            .filter(|(_, message)| message.state == State::There);
        there
            .map(|(&position, message)| (position, message.note, message.value))
            .collect()
    }

    fn groups(&self) -> usize {
        self.messages
            .values()
            .filter_map(|message| message.key)
            .collect::<BTreeSet<_>>()
            .len()
    }

    fn add(&mut self, key: Option<u64>, value: u64, note: u32, state: State) {
        self.messages.insert(
            self.next,
            Message {
                key,
                value,
                note,
                state,
            },
        );
        self.next += 1;
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push {
        key: Option<u64>,
    },
    PushMany {
        keys: Vec<Option<u64>>,
        times: usize,
    },
    Claim {
        keys: Vec<Option<u64>>,
    },
    Fill {
        which: usize,
        part: u64,
    },
    Abandon {
        which: usize,
    },
    Take,
    TakeBatch {
        max: usize,
    },
    Settle {
        which: usize,
    },
    SettleAll,
    Requeue {
        which: usize,
    },
    Remove {
        which: usize,
    },
    RemoveAny {
        position: u64,
    },
    Purge,
    SkipBy {
        positions: u64,
    },
}

fn key() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![1 => Just(None), 3 => (0u64..6).prop_map(Some), 2 => (0u64..100).prop_map(Some)]
}

fn keys() -> impl Strategy<Value = Vec<Option<u64>>> {
    prop::collection::vec(key(), 0..20)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => key().prop_map(|key| Step::Push { key }),
        2 => (keys(), 1usize..30).prop_map(|(keys, times)| Step::PushMany { keys, times }),
        2 => keys().prop_map(|keys| Step::Claim { keys }),
        2 => (any::<usize>(), any::<u64>()).prop_map(|(which, part)| Step::Fill { which, part }),
        1 => any::<usize>().prop_map(|which| Step::Abandon { which }),
        4 => Just(Step::Take),
        3 => (0usize..300).prop_map(|max| Step::TakeBatch { max }),
        5 => any::<usize>().prop_map(|which| Step::Settle { which }),
        1 => Just(Step::SettleAll),
        3 => any::<usize>().prop_map(|which| Step::Requeue { which }),
        3 => any::<usize>().prop_map(|which| Step::Remove { which }),
        1 => (0u64..2000).prop_map(|position| Step::RemoveAny { position }),
        1 => Just(Step::Purge),
        1 => (0u64..2000).prop_map(|positions| Step::SkipBy { positions }),
    ]
}

/// `Option<Value>` is as small as in the engine.
type Value = NonZeroU64;

fn value(number: u64) -> Value {
    NonZeroU64::new(number + 1).unwrap()
}

fn number(value: &Value) -> u64 {
    value.get() - 1
}

/// The structure and the model side by side.
struct Pair {
    groups: Groups<Value>,
    model: Model,
    first: u64,
    leases: Vec<GroupLease<Value>>,
    claims: Vec<std::ops::Range<u64>>,
}

impl Pair {
    fn starting_at(first: u64) -> Self {
        Self {
            groups: Groups::starting_at(first),
            model: Model {
                next: first,
                ..Model::default()
            },
            first,
            leases: Vec::new(),
            claims: Vec::new(),
        }
    }

    /// Each of the new leases must be what the model would hand out, in its order.
    fn check_taken(&mut self, from: usize, expected: &[u64]) {
        let positions: Vec<u64> = self.leases[from..]
            .iter()
            .map(GroupLease::position)
            .collect();
        assert_eq!(positions, expected, "the lowest ready positions are first");
        for lease in &self.leases[from..] {
            let message = self.model.messages.get_mut(&lease.position()).unwrap();
            assert_eq!(
                (lease.note(), number(lease.value())),
                (message.note, message.value)
            );
            message.state = State::Leased;
        }
    }

    fn settle(&mut self, lease: GroupLease<Value>) {
        let message = self.model.messages.remove(&lease.position()).unwrap();
        assert_eq!(number(&self.groups.settle(lease)), message.value);
    }

    fn abandon(&mut self, claimed: std::ops::Range<u64>) {
        self.groups.abandon(claimed.clone());
        for position in claimed {
            self.model.messages.remove(&position);
        }
    }

    fn pick_lease(&mut self, which: usize) -> Option<GroupLease<Value>> {
        (!self.leases.is_empty()).then(|| self.leases.swap_remove(which % self.leases.len()))
    }

    fn pick_claim(&mut self, which: usize) -> Option<std::ops::Range<u64>> {
        (!self.claims.is_empty()).then(|| self.claims.swap_remove(which % self.claims.len()))
    }

    fn step(&mut self, step: Step, note: u32) {
        match step {
            Step::Push { key } => {
                let position = self.groups.push(key, value(self.model.next), note);
                assert_eq!(position, self.model.next);
                self.model.add(key, self.model.next, note, State::There);
            }
            Step::PushMany { keys, times } => {
                let first = self.model.next;
                let keys: Vec<_> = std::iter::repeat_n(keys, times).flatten().collect();
                for &key in &keys {
                    self.model.add(key, self.model.next, note, State::There);
                }
                let items = keys
                    .iter()
                    .enumerate()
                    .map(|(index, &key)| (key, value(first + index as u64), note));
                assert_eq!(self.groups.push_batch(items), first);
            }
            Step::Claim { keys } => {
                let claimed = self.groups.claim(keys.iter().copied());
                assert_eq!(
                    claimed,
                    self.model.next..self.model.next + keys.len() as u64
                );
                for key in keys {
                    self.model.add(key, 0, 0, State::Claimed);
                }
                self.claims.push(claimed);
            }
            Step::Fill { which, part } => {
                let Some(claimed) = self.pick_claim(which) else {
                    return;
                };
                let filled = claimed.start + part % (claimed.end - claimed.start + 1);
                let items = (claimed.start..filled).map(|position| (value(position), note));
                assert_eq!(
                    self.groups.fill(claimed.clone(), items),
                    (filled - claimed.start) as usize
                );
                for position in claimed.start..filled {
                    let message = self.model.messages.get_mut(&position).unwrap();
                    *message = Message {
                        value: position,
                        note,
                        state: State::There,
                        ..*message
                    };
                }
                self.claims.push(filled..claimed.end);
            }
            Step::Abandon { which } => {
                if let Some(claimed) = self.pick_claim(which) {
                    self.abandon(claimed);
                }
            }
            Step::Take => {
                let expected = self.model.ready();
                let from = self.leases.len();
                self.leases.extend(self.groups.take());
                self.check_taken(from, &expected[..expected.len().min(1)]);
            }
            Step::TakeBatch { max } => {
                let expected = self.model.ready();
                let from = self.leases.len();
                let taken = self.groups.take_batch(max, &mut self.leases);
                assert_eq!(taken, self.leases.len() - from);
                self.check_taken(from, &expected[..expected.len().min(max)]);
            }
            Step::Settle { which } => {
                if let Some(lease) = self.pick_lease(which) {
                    self.settle(lease);
                }
            }
            Step::SettleAll => {
                while let Some(lease) = self.leases.pop() {
                    self.settle(lease);
                }
            }
            Step::Requeue { which } => {
                if let Some(lease) = self.pick_lease(which) {
                    let message = self.model.messages.get_mut(&lease.position()).unwrap();
                    *message = Message {
                        note,
                        state: State::There,
                        ..*message
                    };
                    self.groups.requeue(lease, note);
                }
            }
            Step::Remove { which } => {
                let there = self.model.there();
                if !there.is_empty() {
                    let (position, note, number) = there[which % there.len()];
                    assert_eq!(self.groups.remove(position), Some((value(number), note)));
                    self.model.messages.remove(&position);
                }
            }
            Step::RemoveAny { position } => {
                let position = self.first + position;
                let message = self
                    .model
                    .messages
                    .get(&position)
                    .filter(|message| message.state == State::There);
                let expected = message.map(|message| (value(message.value), message.note));
                assert_eq!(self.groups.remove(position), expected);
                if expected.is_some() {
                    self.model.messages.remove(&position);
                }
            }
            Step::Purge => {
                let mut purged = Vec::new();
                let count = self
                    .groups
                    .purge(|position, value, note| purged.push((position, note, number(&value))));
                assert_eq!(count, purged.len());
                assert_eq!(purged, self.model.there());
                self.model
                    .messages
                    .retain(|_, message| message.state != State::There);
            }
            Step::SkipBy { positions } => {
                self.model.next += positions;
                self.groups.skip_to(self.model.next);
            }
        }
    }

    fn compare(&self) {
        let Self {
            groups,
            model,
            first,
            ..
        } = self;
        let there = model.there();
        assert_eq!(
            (groups.len(), groups.is_empty()),
            (there.len(), there.is_empty())
        );
        assert_eq!(groups.ready(), model.ready().len());
        let count = |state| {
            model
                .messages
                .values()
                .filter(|message| message.state == state)
                .count()
        };
        assert_eq!(
            (groups.leased(), groups.claimed()),
            (count(State::Leased), count(State::Claimed))
        );
        assert_eq!(groups.groups(), model.groups());
        assert_eq!(groups.next_position(), model.next);
        assert_eq!(
            groups.oldest_unsettled(),
            model.messages.keys().next().copied()
        );

        let browse = |from, max| {
            let mut shown = Vec::new();
            let count = groups.browse(from, max, |position, note, value| {
                shown.push((position, note, number(value)))
            });
            assert_eq!(count, shown.len());
            shown
        };
        assert_eq!(browse(0, usize::MAX), there);
        let middle = there.len() / 2;
        if let Some(&(from, ..)) = there.get(middle) {
            assert_eq!(browse(from, 3), there[middle..there.len().min(middle + 3)]);
        }

        for position in (*first..model.next).step_by(1 + (model.next - first) as usize / 8) {
            let message = model
                .messages
                .get(&position)
                .filter(|message| message.state != State::Claimed);
            let expected = message.map(|message| {
                let state = match message.state {
                    State::Leased => GroupState::Leased,
                    _ if model.is_head(position) => GroupState::Ready,
                    _ => GroupState::Waiting,
                };
                (state, message.note, message.value)
            });
            assert_eq!(
                groups.inspect(position, |state, note, value| (state, note, number(value))),
                expected
            );
        }
    }

    /// Everything comes out, each message when it is the first of its group.
    fn drain(&mut self) {
        while let Some(claimed) = self.claims.pop() {
            self.abandon(claimed);
        }
        loop {
            self.step(Step::SettleAll, 0);
            self.step(Step::TakeBatch { max: 50 }, 0);
            if self.leases.is_empty() {
                break;
            }
        }
        assert!(self.model.messages.is_empty());
        self.compare();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_the_model(first in 0u64..600, steps in prop::collection::vec(step(), 1..120)) {
        let mut pair = Pair::starting_at(first);
        for (index, step) in steps.into_iter().enumerate() {
            pair.step(step, index as u32);
            pair.compare();
        }
        pair.drain();
    }

    #[test]
    fn restores_what_it_is_given(
        first in 0u64..600,
        items in prop::collection::vec((prop_oneof![4 => 0u64..4, 1 => 0u64..700, 1 => 0u64..1 << 40], key()), 0..300),
    ) {
        let mut pair = Pair::starting_at(first);
        for (hole, key) in items {
            pair.model.next += hole;
            pair.model.add(key, pair.model.next, pair.model.next as u32, State::There);
        }
        pair.groups.restore(pair.model.messages.iter().map(|(&position, message)| {
            (position, message.key, value(message.value), message.note)
        }));
        pair.compare();
        pair.step(Step::Push { key: Some(3) }, 0);
        pair.drain();
    }
}
