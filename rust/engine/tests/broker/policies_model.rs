//! Policies set, changed and cleared at random, beside a model that computes what is in force from all of them anew.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use wherry_engine::NewPolicy;
use wherry_engine::QueueOptions;
use wherry_engine::table::Table;
use wherry_engine::table::Value;

use crate::policies::policy;
use crate::world::world;

/// Sorted, so that their indexes compare as they do.
const NAMES: [&str; 4] = ["a", "ab", "b", "c"];
const PATTERNS: [&str; 5] = ["", "a", "^a$", "b$", "c"];
const KEYS: [&str; 3] = ["max-length", "message-ttl", "max-length-bytes"];

#[derive(Clone, Debug)]
enum Step {
    Set {
        name: usize,
        operator: bool,
        pattern: usize,
        priority: i64,
        definition: Vec<(usize, i64)>,
    },
    Clear {
        name: usize,
        operator: bool,
    },
    Declare {
        queue: usize,
        length: Option<u64>,
    },
    Delete {
        queue: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let definition = prop::collection::vec((0..KEYS.len(), 1..9i64), 1..3);
    let set = (
        0..3usize,
        any::<bool>(),
        0..PATTERNS.len(),
        0..3i64,
        definition,
    );
    let step = prop_oneof![
        4 => set.prop_map(|(name, operator, pattern, priority, definition)| Step::Set {
            name, operator, pattern, priority, definition,
        }),
        2 => (0..3usize, any::<bool>()).prop_map(|(name, operator)| Step::Clear { name, operator }),
        3 => (0..NAMES.len(), prop::option::of(1..9u64))
            .prop_map(|(queue, length)| Step::Declare { queue, length }),
        1 => (0..NAMES.len()).prop_map(|queue| Step::Delete { queue }),
    ];
    prop::collection::vec(step, 1..40)
}

/// Priority, pattern and definition, by kind and name.
type Model = BTreeMap<(bool, usize), (i64, usize, BTreeMap<usize, i64>)>;

fn matches(pattern: usize, name: &str) -> bool {
    match PATTERNS[pattern] {
        "^a$" => name == "a",
        "b$" => name.ends_with('b'),
        part => name.contains(part),
    }
}

fn expected(model: &Model, name: &str, length: Option<u64>) -> [Option<u64>; 3] {
    let mut limits = [length, None, None];
    for operator in [false, true] {
        let of_kind = model.iter().filter(|((kind, _), _)| *kind == operator);
        let matching = of_kind.filter(|(_, (_, pattern, _))| matches(*pattern, name));
        // Lower names first among equals: so the last of the highest, from the back.
        let acting = matching.rev().max_by_key(|(_, (priority, ..))| *priority);
        for (key, n) in acting
            .into_iter()
            .flat_map(|(_, (.., definition))| definition)
        {
            let n = *n as u64;
            limits[*key] = Some(limits[*key].map_or(n, |own| own.min(n)));
        }
    }
    limits
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_in_force_depends_on_what_is_set_and_not_on_how_it_came_about(steps in steps()) {
        let w = world();
        let mut model = Model::new();
        let mut queues: BTreeMap<usize, Option<u64>> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Set { name, operator, pattern, priority, definition } => {
                    let definition: BTreeMap<usize, i64> = definition.into_iter().collect();
                    let fields = definition.iter().map(|(key, n)| (KEYS[*key], Value::I64(*n)));
                    w.set(NewPolicy {
                        operator,
                        priority,
                        definition: Table::from_iter(fields),
                        ..policy::<i32, 0>(NAMES[name], PATTERNS[pattern], [])
                    });
                    model.insert((operator, name), (priority, pattern, definition));
                }
                Step::Clear { name, operator } => {
                    let (was_there, _) = w.host.clear_policy(NAMES[name], operator).unwrap();
                    prop_assert_eq!(was_there, model.remove(&(operator, name)).is_some());
                }
                Step::Declare { queue, length } => {
                    let options = QueueOptions { max_length: length, ..Default::default() };
                    let known = *queues.entry(queue).or_insert(length);
                    let declared = w.host.declare_queue(NAMES[queue], options);
                    prop_assert_eq!(declared.is_ok(), known == length, "as declared, not as in force");
                }
                Step::Delete { queue } => {
                    if queues.remove(&queue).is_some() {
                        w.host.delete_queue(NAMES[queue], false, false).unwrap();
                    }
                }
            }
            for (queue, length) in &queues {
                let name = NAMES[*queue];
                let found = w.host.queue(name).unwrap().in_force();
                let ttl = found.message_ttl.map(|ttl: Duration| ttl.as_millis() as u64);
                let found = [found.max_length, ttl, found.max_length_bytes];
                prop_assert_eq!(found, expected(&model, name, *length), "{}", name);
            }
        }
    }
}
