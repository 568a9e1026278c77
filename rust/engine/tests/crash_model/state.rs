//! What is in the queues, as the model compares it.

use std::collections::BTreeMap;

use wherry_engine::Broker;

use crate::QUEUES;
use crate::common::*;

/// One copy of a message in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stands {
    /// The queue itself, or a binding, is there.
    Exists,
    Ready {
        level: u8,
        position: u64,
        failures: u32,
    },
    Delayed {
        due_ns: u64,
    },
    Retry {
        due_ns: u64,
        level: u8,
        position: u64,
        failures: u32,
    },
}

/// Copies by queue and body.
pub(crate) type State = BTreeMap<(String, String), Vec<Stands>>;

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// All durable copies in the broker; `place` tells of retries what the broker does not.
pub(crate) fn observe(
    broker: &Broker,
    place: impl Fn(&(String, String)) -> (u8, u64, u32),
) -> (State, Vec<(String, String)>) {
    let mut state = State::new();
    let mut flagged = Vec::new();
    let host = host(broker);
    for name in QUEUES {
        let Ok(queue) = host.queue(name) else {
            continue;
        };
        state
            .entry((name.into(), String::new()))
            .or_default()
            .push(Stands::Exists);
        for b in queue.browse(0, usize::MAX) {
            if b.message.persistent() {
                let key = (name.to_string(), text(b.message.body()));
                if b.redelivered {
                    flagged.push(key.clone());
                }
                state.entry(key).or_default().push(Stands::Ready {
                    level: b.priority,
                    position: b.position,
                    failures: b.delivery_count,
                });
            }
        }
        for s in queue.scheduled() {
            if s.message.persistent() {
                let key = (name.to_string(), text(s.message.body()));
                let due_ns = s.due_ns;
                let stands = if s.retry {
                    let (level, position, failures) = place(&key);
                    Stands::Retry {
                        due_ns,
                        level,
                        position,
                        failures,
                    }
                } else {
                    Stands::Delayed { due_ns }
                };
                state.entry(key).or_default().push(stands);
            }
        }
    }
    for binding in host.exchange("amq.topic").unwrap().bindings() {
        let key = (format!("binding {}", binding.routing_key), String::new());
        state.entry(key).or_default().push(Stands::Exists);
    }
    (state, flagged)
}

pub(crate) fn sorted(mut state: State) -> State {
    for copies in state.values_mut() {
        copies.sort();
    }
    state
}

/// As a broker that is opened at `now_ns` shows it: retries that are due are ready, others do not tell their place.
pub(crate) fn at_opening(state: &State, now_ns: u64) -> State {
    let mut state = state.clone();
    for stands in state.values_mut().flatten() {
        if let Stands::Retry {
            due_ns,
            level,
            position,
            failures,
        } = *stands
        {
            *stands = if due_ns <= now_ns {
                Stands::Ready {
                    level,
                    position,
                    failures,
                }
            } else {
                Stands::Retry {
                    due_ns,
                    level: 0,
                    position: 0,
                    failures: 0,
                }
            };
        }
    }
    sorted(state)
}

pub(crate) fn totals(state: &State) -> BTreeMap<&str, usize> {
    let mut totals = BTreeMap::new();
    for ((_, body), copies) in state {
        *totals.entry(body.as_str()).or_default() += copies.len();
    }
    totals
}
