//! Each kind of binding table against a plain list of bindings that is searched with a matcher written straight from the rules.

use std::collections::BTreeSet;

use proptest::prelude::*;
use wherry_engine::routing::{Bindings, ExchangeKind};
use wherry_engine::table::{Table, TableView, Value};

/// Small alphabets, so that the same things are bound, met and removed again and again.
#[derive(Clone, Debug)]
enum Operation {
    Bind(String, Table, u8),
    Unbind(String, Table, u8),
    /// Removes the binding at this place of the model's list, if there is one.
    UnbindExisting(prop::sample::Index),
    UnbindDestination(u8),
    Route(String, Table),
}

type Binding = (String, Table, u8);

/// The rules of topic matching, by recursion over words.
fn topic_matches(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern, key) {
        ([], []) => true,
        (["#", rest @ ..], _) => {
            topic_matches(rest, key) || (!key.is_empty() && topic_matches(pattern, &key[1..]))
        }
        (["*", pattern @ ..], [_, key @ ..]) => topic_matches(pattern, key),
        ([wanted, pattern @ ..], [word, key @ ..]) => wanted == word && topic_matches(pattern, key),
        _ => false,
    }
}

fn words(text: &str) -> Vec<&str> {
    match text {
        "" => Vec::new(),
        text => text.split('.').collect(),
    }
}

/// Equality of the values that the strategies below produce: numbers by number, everything else by type and value.
fn equal(left: &Value, right: &Value) -> bool {
    let number = |value: &Value| match value {
        Value::F64(n) => Some(*n),
        value => value.as_integer().map(|n| n as f64),
    };
    match (number(left), number(right)) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

fn headers_match(arguments: &Table, headers: &Table) -> bool {
    let mode = arguments
        .get("x-match")
        .and_then(Value::as_str)
        .unwrap_or("all");
    let with_x = mode.ends_with("-with-x");
    let mut conditions = arguments
        .iter()
        .filter(|(name, _)| *name != b"x-match" && (with_x || !name.starts_with(b"x-")));
    let holds = |(name, wanted): (&[u8], &Value)| {
        headers
            .get(name)
            .is_some_and(|value| *wanted == Value::Void || equal(value, wanted))
    };
    if mode.starts_with("all") {
        conditions.all(holds)
    } else {
        conditions.any(holds)
    }
}

fn matches(kind: ExchangeKind, binding: &Binding, key: &str, headers: &Table) -> bool {
    match kind {
        ExchangeKind::Direct => binding.0 == key,
        ExchangeKind::Topic => topic_matches(&words(&binding.0), &words(key)),
        ExchangeKind::Headers => headers_match(&binding.1, headers),
        ExchangeKind::Fanout => true,
    }
}

fn route(bindings: &Bindings<u8>, key: &str, headers: &Table) -> Vec<u8> {
    let mut found = Vec::new();
    let bytes = headers.encode().unwrap();
    bindings.route(key, Some(TableView::new(&bytes)), &mut |destination| {
        found.push(*destination)
    });
    found.sort_unstable();
    found
}

fn sorted(table: &Table) -> Table {
    let mut table = table.clone();
    table.sort();
    table
}

fn check(kind: ExchangeKind, operations: Vec<Operation>) -> Result<(), TestCaseError> {
    let bindings = Bindings::new(kind);
    let mut model: Vec<Binding> = Vec::new();
    let mut keys = BTreeSet::new();
    let mut generation = bindings.generation();
    for operation in operations {
        let before = model.clone();
        match operation {
            Operation::Bind(key, arguments, destination) => {
                let binding = (key.clone(), sorted(&arguments), destination);
                let new = !model.contains(&binding);
                if new {
                    model.push(binding);
                }
                prop_assert_eq!(bindings.bind(&key, &arguments, destination), Ok(new));
                keys.insert(key);
            }
            Operation::Unbind(key, arguments, destination) => {
                let binding = (key.clone(), sorted(&arguments), destination);
                let place = model.iter().position(|held| *held == binding);
                let existed = place.map(|place| model.remove(place)).is_some();
                prop_assert_eq!(bindings.unbind(&key, &arguments, &destination), existed);
            }
            Operation::UnbindExisting(place) => {
                if !model.is_empty() {
                    let (key, arguments, destination) = model.remove(place.index(model.len()));
                    prop_assert!(bindings.unbind(&key, &arguments, &destination));
                    prop_assert!(!bindings.unbind(&key, &arguments, &destination));
                }
            }
            Operation::UnbindDestination(destination) => {
                let mut gone = bindings.unbind_destination(&destination);
                let mut expected: Vec<_> = model
                    .extract_if(.., |binding| binding.2 == destination)
                    .map(|(key, arguments, _)| (key, arguments))
                    .collect();
                gone.sort_by_key(|binding| format!("{binding:?}"));
                expected.sort_by_key(|binding| format!("{binding:?}"));
                prop_assert_eq!(gone, expected);
            }
            Operation::Route(key, headers) => {
                let mut expected: Vec<u8> = model
                    .iter()
                    .filter(|binding| matches(kind, binding, &key, &headers))
                    .map(|binding| binding.2)
                    .collect();
                expected.sort_unstable();
                // Exactly once for each matching binding: no binding is met twice.
                prop_assert_eq!(route(&bindings, &key, &headers), expected, "{:?}", key);
            }
        }
        prop_assert_eq!(bindings.len(), model.len());
        prop_assert_eq!(bindings.is_empty(), model.is_empty());
        let changed = bindings.generation() > generation;
        prop_assert_eq!(changed, before != model);
        generation = bindings.generation();
    }
    let mut list = bindings.list();
    list.sort_by_key(|binding| format!("{binding:?}"));
    model.sort_by_key(|binding| format!("{binding:?}"));
    prop_assert_eq!(list, model.clone());
    // At last everything goes, one by one, and what is left is found to the end.
    while let Some((key, arguments, destination)) = model.pop() {
        prop_assert!(bindings.unbind(&key, &arguments, &destination));
        for key in &keys {
            let found = route(&bindings, key, &Table::new());
            let expected = model
                .iter()
                .filter(|binding| matches(kind, binding, key, &Table::new()))
                .count();
            prop_assert_eq!(found.len(), expected);
        }
    }
    prop_assert!(bindings.is_empty());
    Ok(())
}

fn operations(
    key: BoxedStrategy<String>,
    arguments: BoxedStrategy<Table>,
    headers: BoxedStrategy<Table>,
    routed: BoxedStrategy<String>,
) -> impl Strategy<Value = Vec<Operation>> {
    let operation = prop_oneof![
        6 => (key.clone(), arguments.clone(), 0..20_u8).prop_map(|(k, a, d)| Operation::Bind(k, a, d)),
        1 => (key, arguments, 0..20_u8).prop_map(|(k, a, d)| Operation::Unbind(k, a, d)),
        3 => any::<prop::sample::Index>().prop_map(Operation::UnbindExisting),
        1 => (0..20_u8).prop_map(Operation::UnbindDestination),
        4 => (routed, headers).prop_map(|(k, h)| Operation::Route(k, h)),
    ];
    prop::collection::vec(operation, 0..120)
}

/// Words joined by dots, `length` of them at most.
fn text(word: &'static [&'static str], length: usize) -> BoxedStrategy<String> {
    prop::collection::vec(prop::sample::select(word), 0..=length)
        .prop_map(|words| words.join("."))
        .boxed()
}

fn no_table() -> BoxedStrategy<Table> {
    prop_oneof![4 => Just(Table::new()), 1 => Just(Table::from_iter([("a", 1)]))].boxed()
}

fn header_table(names: &'static [&'static str], modes: bool) -> BoxedStrategy<Table> {
    let value = prop_oneof![
        Just(Value::I32(1)),
        Just(Value::I64(1)),
        Just(Value::U8(2)),
        Just(Value::F64(2.0)),
        Just(Value::F64(0.5)),
        Just(Value::from("1")),
        Just(Value::Bool(true)),
        Just(Value::Void),
    ];
    let fields = prop::collection::btree_map(prop::sample::select(names), value, 0..4);
    let mode = prop::option::of(prop::sample::select(
        ["all", "any", "all-with-x", "any-with-x"].as_slice(),
    ));
    (fields, mode)
        .prop_map(move |(fields, mode)| {
            // Not sorted by name: the order of arguments does not matter.
            let mut table: Table = fields.into_iter().rev().collect();
            if let Some(mode) = mode.filter(|_| modes) {
                table.push("x-match", mode);
            }
            table
        })
        .boxed()
}

const PATTERN_WORDS: &[&str] = &["a", "b", "", "*", "#", "#"];
const KEY_WORDS: &[&str] = &["a", "b", "", "c", "*"];

proptest! {
    #[test]
    fn direct(operations in operations(text(KEY_WORDS, 2), no_table(), no_table(), text(KEY_WORDS, 2))) {
        check(ExchangeKind::Direct, operations)?;
    }

    #[test]
    fn fanout(operations in operations(text(KEY_WORDS, 1), no_table(), no_table(), text(KEY_WORDS, 1))) {
        check(ExchangeKind::Fanout, operations)?;
    }

    #[test]
    fn topic(operations in operations(text(PATTERN_WORDS, 5), no_table(), no_table(), text(KEY_WORDS, 6))) {
        check(ExchangeKind::Topic, operations)?;
    }

    #[test]
    fn headers(operations in operations(
        text(KEY_WORDS, 1),
        header_table(&["a", "b", "x-c"], true),
        header_table(&["a", "b", "c", "x-c", "x-match"], false),
        text(KEY_WORDS, 1),
    )) {
        check(ExchangeKind::Headers, operations)?;
    }

    /// Patterns with words in place of words: dense tries with many nodes, folded and expanded often.
    #[test]
    fn topic_of_plain_words(operations in operations(text(&["a", "b"], 6), no_table(), no_table(), text(&["a", "b"], 6))) {
        check(ExchangeKind::Topic, operations)?;
    }
}
