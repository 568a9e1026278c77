//! Field tables: the bytes of each type, round trips, damage at every byte, and what hostile tables cost.

use proptest::prelude::*;
use wherry_engine::table::{
    BYTES_MAX, DEPTH_MAX, Table, TableError, TableView, VALUES_MAX, Value, ValueView,
};

fn decode(bytes: &[u8]) -> Result<Table, TableError> {
    TableView::new(bytes).to_table()
}

fn validate(bytes: &[u8]) -> Result<(), TableError> {
    TableView::new(bytes).validate(DEPTH_MAX, BYTES_MAX)
}

/// One field named "n" whose value has these bytes.
fn field(value: &[u8]) -> Vec<u8> {
    [b"\x01n", value].concat()
}

#[test]
fn every_type_has_its_letter_and_bytes() {
    let cases: &[(Value, &[u8])] = &[
        (Value::Bool(true), b"t\x01"),
        (Value::Bool(false), b"t\x00"),
        (Value::I8(-2), b"b\xfe"),
        (Value::U8(254), b"B\xfe"),
        (Value::I16(-2), b"s\xff\xfe"),
        (Value::U16(65534), b"u\xff\xfe"),
        (Value::I32(-2), b"I\xff\xff\xff\xfe"),
        (Value::U32(4_294_967_294), b"i\xff\xff\xff\xfe"),
        (Value::I64(-2), b"l\xff\xff\xff\xff\xff\xff\xff\xfe"),
        (Value::F32(1.5), b"f\x3f\xc0\x00\x00"),
        (Value::F64(-1.5), b"d\xbf\xf8\x00\x00\x00\x00\x00\x00"),
        (
            Value::Decimal {
                scale: 2,
                value: 314,
            },
            b"D\x02\x00\x00\x01\x3a",
        ),
        (Value::Str(b"hi".to_vec()), b"S\x00\x00\x00\x02hi"),
        (
            Value::Bytes(b"\x00\xff".to_vec()),
            b"x\x00\x00\x00\x02\x00\xff",
        ),
        (
            Value::Array(vec![Value::U8(1), Value::Void]),
            b"A\x00\x00\x00\x03B\x01V",
        ),
        (
            Value::Table(Table::from_iter([("k", true)])),
            b"F\x00\x00\x00\x04\x01kt\x01",
        ),
        (Value::Timestamp(1), b"T\x00\x00\x00\x00\x00\x00\x00\x01"),
        (Value::Void, b"V"),
    ];
    for (value, bytes) in cases {
        let table = Table::from_iter([("n", value.clone())]);
        assert_eq!(table.encode().unwrap(), field(bytes));
        assert_eq!(decode(&field(bytes)).unwrap(), table);
    }
}

#[test]
fn lenient_forms_are_read_as_rabbitmq_reads_them() {
    // py-amqp writes large numbers with `L`; it is the same signed number as `l`.
    let long = decode(&field(b"L\xff\xff\xff\xff\xff\xff\xff\xfe")).unwrap();
    assert_eq!(long.get("n"), Some(&Value::I64(-2)));
    assert_eq!(
        decode(&field(b"t\x07")).unwrap().get("n"),
        Some(&Value::Bool(true))
    );
}

#[test]
fn unsigned_64_bit_numbers_travel_as_signed_or_not_at_all() {
    let fits = Table::from_iter([("n", Value::U64(7))]);
    assert_eq!(
        decode(&fits.encode().unwrap()).unwrap().get("n"),
        Some(&Value::I64(7))
    );
    let too_large = Table::from_iter([("n", Value::U64(1 << 63))]);
    assert_eq!(too_large.encode(), Err(TableError::NumberTooLarge));
}

#[test]
fn a_name_that_does_not_fit_is_an_error_and_leaves_the_buffer_alone() {
    let longest = Table::from_iter([("n".repeat(255), true)]);
    assert_eq!(decode(&longest.encode().unwrap()).unwrap(), longest);
    let table = Table::from_iter([("a".to_owned(), true), ("n".repeat(256), true)]);
    let mut bytes = b"before".to_vec();
    assert_eq!(table.encode_into(&mut bytes), Err(TableError::NameTooLong));
    assert_eq!(bytes, b"before");
}

#[test]
fn unknown_letters_are_refused() {
    for letter in 0..=u8::MAX {
        let known = b"tbBsuIilLfdDSATFVx".contains(&letter);
        // A known letter without a payload is cut short, or complete (V).
        let error = validate(&field(&[letter])).err();
        assert_eq!(
            error == Some(TableError::UnknownType(letter)),
            !known,
            "{letter}"
        );
    }
}

/// A table in a table in a table, `depth` levels in all.
fn nested(depth: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 1..depth {
        let length = (bytes.len() as u32).to_be_bytes();
        bytes = [b"\x00F".as_slice(), &length, &bytes].concat();
    }
    bytes
}

#[test]
fn depth_is_limited_for_tables_and_arrays() {
    assert_eq!(validate(&nested(DEPTH_MAX)), Ok(()));
    assert_eq!(validate(&nested(DEPTH_MAX + 1)), Err(TableError::TooDeep));
    assert_eq!(validate(&nested(10_000)), Err(TableError::TooDeep));
    assert_eq!(decode(&nested(10_000)), Err(TableError::TooDeep));
    let view_bytes = nested(4);
    let view = TableView::new(&view_bytes);
    assert_eq!(view.validate(4, 100), Ok(()));
    assert_eq!(view.validate(3, 100), Err(TableError::TooDeep));
    assert_eq!(
        view.validate(usize::MAX, view_bytes.len() - 1),
        Err(TableError::TooLong)
    );

    let mut value = Value::Void;
    for _ in 0..10_000 {
        value = Value::Array(vec![value]);
    }
    let deep = Table::from_iter([("n", value)]);
    assert_eq!(deep.encode(), Err(TableError::TooDeep));
    // Taken apart from the outside: the derived drop would recurse 10,000 levels deep.
    let mut rest = deep.into_iter().next().map(|(_, value)| value);
    while let Some(Value::Array(mut values)) = rest {
        rest = values.pop();
    }
}

#[test]
fn lengths_behind_the_end_are_refused() {
    for letter in *b"SxFA" {
        for length in [1_u32, 0x7fff_ffff, u32::MAX] {
            let bytes = field(&[&[letter], length.to_be_bytes().as_slice()].concat());
            assert_eq!(validate(&bytes), Err(TableError::Truncated));
            assert_eq!(decode(&bytes), Err(TableError::Truncated));
        }
    }
}

#[test]
fn an_inner_length_cannot_reach_over_its_container() {
    // The inner text claims 3 bytes; its table has 2, though the outer table has more.
    let inner = b"\x01kS\x00\x00\x00\x03ab";
    let length = (inner.len() as u32).to_be_bytes();
    let bytes = [b"\x01nF".as_slice(), &length, inner, b"\x01mV"].concat();
    assert_eq!(validate(&bytes), Err(TableError::Truncated));
    assert_eq!(TableView::new(&bytes).get("m"), Some(ValueView::Void));
}

#[test]
fn too_many_values_are_refused_when_owned_and_read_when_viewed() {
    let voids = vec![b'V'; VALUES_MAX];
    let length = (voids.len() as u32).to_be_bytes();
    let bytes = field(&[b"A", length.as_slice(), &voids].concat());
    assert_eq!(validate(&bytes), Ok(()));
    assert_eq!(decode(&bytes), Err(TableError::TooManyValues));
    let Some(ValueView::Array(array)) = TableView::new(&bytes).get("n") else {
        panic!("no array");
    };
    assert_eq!(array.iter().count(), VALUES_MAX);
}

#[test]
fn a_huge_text_is_refused_before_it_is_copied() {
    let table = Table::from_iter([("n", Value::Str(vec![b'a'; BYTES_MAX]))]);
    assert_eq!(table.encode(), Err(TableError::TooLong));
    let table = Table::from_iter([("n", Value::Str(vec![b'a'; BYTES_MAX - 7]))]);
    assert_eq!(table.encode().unwrap().len(), BYTES_MAX);
}

#[test]
fn fields_are_found_set_and_removed_by_name() {
    let mut table = Table::from_iter([("b", 1), ("a", 2), ("b", 3)]);
    assert_eq!(table.get("b"), Some(&Value::I32(1)));
    assert_eq!(table.insert("b", 4), Some(Value::I32(1)));
    assert_eq!(table.insert("c", "text"), None);
    assert_eq!(table.get("c").and_then(Value::as_str), Some("text"));
    assert_eq!(table.remove("a"), Some(Value::I32(2)));
    assert_eq!(table.remove("a"), None);
    table.push("a", 5);
    table.sort();
    assert_eq!(
        table,
        Table::from_iter([
            ("a", 5.into()),
            ("b", 4.into()),
            ("b", 3.into()),
            ("c", Value::from("text"))
        ])
    );
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i8>().prop_map(Value::I8),
        any::<u8>().prop_map(Value::U8),
        any::<i16>().prop_map(Value::I16),
        any::<u16>().prop_map(Value::U16),
        any::<i32>().prop_map(Value::I32),
        any::<u32>().prop_map(Value::U32),
        any::<i64>().prop_map(Value::I64),
        any::<f32>().prop_map(Value::F32),
        any::<f64>().prop_map(Value::F64),
        (any::<u8>(), any::<u32>()).prop_map(|(scale, value)| Value::Decimal { scale, value }),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Value::Str),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Value::Bytes),
        any::<u64>().prop_map(Value::Timestamp),
        Just(Value::Void),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            fields(inner).prop_map(Value::Table),
        ]
    })
}

fn fields(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Table> {
    let name = prop::collection::vec(any::<u8>(), 0..6);
    prop::collection::vec((name, value), 0..6).prop_map(Table::from_iter)
}

proptest! {
    #[test]
    fn round_trip(table in fields(value())) {
        let bytes = table.encode().unwrap();
        prop_assert_eq!(validate(&bytes), Ok(()));
        let decoded = decode(&bytes).unwrap();
        prop_assert_eq!(decoded.encode().unwrap(), bytes.clone());
        prop_assert_eq!(&decoded, &table);
        let view = TableView::new(&bytes);
        for (name, _) in table.iter() {
            let seen = view.get(name).map(|value| value.to_value().unwrap());
            prop_assert_eq!(seen.as_ref(), table.get(name));
        }
    }

    /// Cut anywhere, a table is either refused or ends between two fields.
    #[test]
    fn truncation(table in fields(value())) {
        let bytes = table.encode().unwrap();
        let mut whole = vec![0];
        for (index, _) in table.iter().enumerate() {
            let fields = table.iter().take(index + 1).map(|(name, value)| (name, value.clone()));
            whole.push(Table::from_iter(fields).encode().unwrap().len());
        }
        for end in 0..bytes.len() {
            let error = validate(&bytes[..end]).err();
            let expected = (!whole.contains(&end)).then_some(TableError::Truncated);
            prop_assert_eq!(error, expected);
        }
    }

    /// Whatever the bytes are: no panic, and what is accepted can be owned and encoded again to the same table.
    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let view = TableView::new(&bytes);
        let shown = view.iter().count();
        match validate(&bytes) {
            Ok(()) => {
                let table = view.to_table().unwrap();
                prop_assert_eq!(table.len(), shown);
                prop_assert_eq!(decode(&table.encode().unwrap()).unwrap().encode(), table.encode());
            }
            Err(error) => prop_assert_eq!(decode(&bytes), Err(error)),
        }
    }

    /// Valid tables with a flipped byte reach deeper than arbitrary bytes do.
    #[test]
    fn damaged_bytes(table in fields(value()), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = table.encode().unwrap();
        prop_assume!(!bytes.is_empty());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let accepted = validate(&bytes).is_ok();
        prop_assert_eq!(decode(&bytes).is_ok(), accepted);
    }
}
