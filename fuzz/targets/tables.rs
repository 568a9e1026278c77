//! Field tables and basic properties from outside.
//!
//! Invariants tested: nothing panics, on validated bytes and on others; bytes that `validate` accepts can be owned (unless they hold
//! too many values) and bytes that it refuses cannot, for the same reason; what is owned is encoded, and read again as the same; the
//! views show what the owned form has.
//!
//! Input: the fields of a table, which are also read as properties.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wherry_engine::properties::{PropertiesError, PropertiesView};
use wherry_engine::table::{BYTES_MAX, DEPTH_MAX, TableError, TableView, ValueView};

fuzz_target!(|input: &[u8]| {
    table(input);
    properties(input);
});

fn table(bytes: &[u8]) {
    let view = TableView::new(bytes);
    let valid = view.validate(DEPTH_MAX, BYTES_MAX);
    let shown = view.iter().count();
    for (name, value) in view {
        let _ = value.as_integer();
        let _ = value.as_str();
        let _ = value.to_value();
        if let ValueView::Array(array) = value {
            array.iter().for_each(drop);
        }
        assert!(view.get(name).is_some());
    }
    match view.to_table() {
        Ok(table) => {
            assert_eq!(valid, Ok(()));
            assert_eq!(table.len(), shown);
            let encoded = table.encode().expect("what was read can be encoded");
            let again = TableView::new(&encoded)
                .to_table()
                .expect("what was encoded can be read");
            // Compared as bytes: a NaN does not equal itself.
            assert_eq!(again.encode().as_ref(), Ok(&encoded));
        }
        Err(TableError::TooManyValues) => assert_eq!(valid, Ok(())),
        Err(error) => assert_eq!(valid, Err(error)),
    }
}

fn properties(bytes: &[u8]) {
    let view = PropertiesView::new(bytes);
    let valid = view.validate();
    let _ = (
        view.cluster_id(),
        view.timestamp(),
        view.headers(),
        view.priority(),
    );
    match view.to_properties() {
        Ok(properties) => {
            assert_eq!(valid, Ok(()));
            let encoded = properties.encode().expect("what was read can be encoded");
            assert_eq!(PropertiesView::new(&encoded).validate(), Ok(()));
        }
        Err(PropertiesError::Headers(TableError::TooManyValues)) => assert_eq!(valid, Ok(())),
        Err(error) => assert_eq!(valid, Err(error)),
    }
}
