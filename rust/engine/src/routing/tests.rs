//! What the tests of the public face cannot reach: collisions of word hashes, the pattern matcher alone, the table below.

use std::collections::{BTreeMap, HashSet};

use crossbeam_epoch::pin;
use foldhash::fast::RandomState;
use proptest::prelude::*;
use triomphe::Arc;

use super::pattern::{Words, matches};
use super::slots::{Slots, Writer, tag_of};
use super::topic::Topic;
use super::{Bindings, ExchangeKind, Kind};
use crate::table::Table;

/// The rules, by recursion over words.
fn naive(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern, key) {
        ([], []) => true,
        (["#", rest @ ..], _) => naive(rest, key) || (!key.is_empty() && naive(pattern, &key[1..])),
        (["*", pattern @ ..], [_, key @ ..]) => naive(pattern, key),
        ([wanted, pattern @ ..], [word, key @ ..]) => wanted == word && naive(pattern, key),
        _ => false,
    }
}

fn split(text: &str) -> Vec<&str> {
    match text {
        "" => Vec::new(),
        text => text.split('.').collect(),
    }
}

fn text(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(words), 0..7).prop_map(|words| words.join("."))
}

#[test]
fn words_are_what_stands_between_dots() {
    let words = |text: &'static str| Words::new(text.as_bytes()).collect::<Vec<_>>();
    assert_eq!(words(""), Vec::<&[u8]>::new());
    assert_eq!(words("a"), [b"a"]);
    assert_eq!(words("."), [b"", b""]);
    assert_eq!(words("a..b"), [b"a".as_slice(), b"", b"b"]);
    assert_eq!(words("ab."), [b"ab".as_slice(), b""]);
}

proptest! {
    #[test]
    fn patterns_match_as_the_rules_say(
        pattern in text(&["a", "b", "", "*", "#", "#"]),
        key in text(&["a", "b", "", "*"]),
    ) {
        let expected = naive(&split(&pattern), &split(&key));
        prop_assert_eq!(matches(pattern.as_bytes(), key.as_bytes()), expected);
    }

    /// With four hashes for all words, most edges are shared and many patterns have no place in the trie.
    #[test]
    fn collisions_cost_nothing_but_time(
        operations in prop::collection::vec((text(&["a", "b", "c", "d", "e", "*", "#"]), any::<bool>()), 0..60),
        keys in prop::collection::vec(text(&["a", "b", "c", "d", "e", "f"]), 10),
    ) {
        let mut bindings: Bindings<String> = Bindings::new(ExchangeKind::Topic);
        bindings.kind = Kind::Topic(Topic::with_collisions(RandomState::default()));
        let mut model: HashSet<String> = HashSet::new();
        for (step, (pattern, remove)) in operations.iter().enumerate() {
            if *remove && !model.is_empty() {
                let pattern = model.iter().nth(step % model.len()).cloned().unwrap();
                prop_assert!(bindings.unbind(&pattern, &Table::new(), &pattern));
                model.remove(&pattern);
            } else {
                let new = bindings.bind(pattern, &Table::new(), pattern.clone());
                prop_assert_eq!(new, Ok(model.insert(pattern.clone())));
            }
            for key in &keys {
                let mut found = Vec::new();
                bindings.route(key, None, &mut |pattern: &String| found.push(pattern.clone()));
                let mut expected: Vec<String> = model.iter().cloned().collect();
                expected.retain(|pattern| naive(&split(pattern), &split(key)));
                found.sort();
                expected.sort();
                prop_assert_eq!(found, expected);
            }
        }
    }

    /// The table against a map, with tags that collide and tables that grow and shrink.
    #[test]
    fn slots_hold_what_was_put_in(
        operations in prop::collection::vec((0..60_u64, 0..4_u8), 0..400),
        spread in 1..40_u64,
    ) {
        let slots: Slots<Arc<(u64, usize)>> = Slots::new();
        let mut model: BTreeMap<u64, usize> = BTreeMap::new();
        let guard = pin();
        // SAFETY: this thread is the only one that knows the table.
        let writer = unsafe { Writer::new(&guard) };
        for (step, (key, action)) in operations.into_iter().enumerate() {
            let tag = tag_of::<0>(key % spread);
            let same = |element: &(u64, usize)| element.0 == key;
            match action {
                0 | 1 if !model.contains_key(&key) => {
                    slots.insert(tag, Arc::new((key, step)), writer);
                    model.insert(key, step);
                }
                2 => {
                    let there = slots.replace(tag, Arc::new((key, step)), writer, same).is_ok();
                    prop_assert_eq!(there, model.contains_key(&key));
                    model.entry(key).and_modify(|held| *held = step);
                }
                3 => prop_assert_eq!(slots.remove(tag, writer, same), model.remove(&key).is_some()),
                _ => {}
            }
            let found = slots.find(tag, &guard, same).map(|element| element.1);
            prop_assert_eq!(found, model.get(&key).copied());
            let mut all = Vec::new();
            slots.each(&guard, |element| all.push(*element));
            all.sort_unstable();
            let expected: Vec<_> = model.iter().map(|(key, value)| (*key, *value)).collect();
            prop_assert_eq!(all, expected);
            prop_assert_eq!(slots.len(&guard), model.len());
            prop_assert_eq!(slots.is_empty(), model.is_empty());
        }
    }
}
