//! Basic properties: the bytes, round trips, lazy accessors, damage at every byte.

use proptest::option;
use proptest::prelude::*;
use wherry_engine::properties::{Properties, PropertiesError, PropertiesView};
use wherry_engine::table::{Table, TableError, Value};

#[test]
fn the_bytes_are_those_of_the_protocol() {
    assert_eq!(Properties::default().encode().unwrap(), b"\x00\x00");
    let properties = Properties {
        content_type: Some(b"text/plain".to_vec()),
        headers: Some(Table::from_iter([("k", Value::U8(7))])),
        delivery_mode: Some(2),
        priority: Some(9),
        expiration: Some(b"60000".to_vec()),
        timestamp: Some(258),
        cluster_id: Some(Vec::new()),
        ..Properties::default()
    };
    let expected = [
        // content-type 15, headers 13, delivery-mode 12, priority 11, expiration 8, timestamp 6, cluster-id 2
        b"\xb9\x44".as_slice(),
        b"\x0atext/plain",
        b"\x00\x00\x00\x04\x01kB\x07",
        b"\x02",
        b"\x09",
        b"\x0560000",
        b"\x00\x00\x00\x00\x00\x00\x01\x02",
        b"\x00",
    ]
    .concat();
    assert_eq!(properties.encode().unwrap(), expected);
    let view = PropertiesView::new(&expected);
    assert_eq!(view.validate(), Ok(()));
    assert_eq!(view.priority(), Some(9));
    assert_eq!(view.delivery_mode(), Some(2));
    assert_eq!(view.expiration(), Some(b"60000".as_slice()));
    assert_eq!(view.cluster_id(), Some(b"".as_slice()));
    assert_eq!(view.message_id(), None);
    assert_eq!(
        view.headers().unwrap().get("k").unwrap().as_integer(),
        Some(7)
    );
    assert_eq!(view.to_properties().unwrap(), properties);
}

#[test]
fn a_long_text_is_an_error_and_never_cut() {
    let mut properties = Properties {
        message_id: Some(vec![b'm'; 255]),
        ..Properties::default()
    };
    let bytes = properties.encode().unwrap();
    assert_eq!(PropertiesView::new(&bytes).message_id().unwrap().len(), 255);
    properties.message_id = Some(vec![b'm'; 256]);
    let mut buffer = b"before".to_vec();
    assert_eq!(
        properties.encode_into(&mut buffer),
        Err(PropertiesError::ShortStringTooLong)
    );
    assert_eq!(buffer, b"before");
}

#[test]
fn what_is_not_properties_is_refused() {
    let validate = |bytes: &[u8]| PropertiesView::new(bytes).validate();
    assert_eq!(validate(b""), Err(PropertiesError::Truncated));
    assert_eq!(validate(b"\x00"), Err(PropertiesError::Truncated));
    assert_eq!(validate(b"\x00\x01"), Err(PropertiesError::UnknownFlag));
    assert_eq!(validate(b"\x00\x02"), Err(PropertiesError::UnknownFlag));
    assert_eq!(
        validate(b"\x00\x00\x00"),
        Err(PropertiesError::TrailingBytes)
    );
    assert_eq!(
        validate(b"\x20\x00\x00\x00\x00\x02\x00?"),
        Err(PropertiesError::Headers(TableError::UnknownType(b'?')))
    );
    assert_eq!(
        validate(b"\x20\x00\xff\xff\xff\xff"),
        Err(PropertiesError::Truncated)
    );
}

fn properties() -> impl Strategy<Value = Properties> {
    let text = || option::of(prop::collection::vec(any::<u8>(), 0..12));
    let headers = option::of(
        prop::collection::vec(("[a-z]{0,4}", any::<i64>()), 0..4).prop_map(Table::from_iter),
    );
    let texts = prop::array::uniform10(text());
    let numbers = (
        option::of(any::<u8>()),
        option::of(any::<u8>()),
        option::of(any::<u64>()),
    );
    (texts, headers, numbers).prop_map(|(texts, headers, (delivery_mode, priority, timestamp))| {
        let [
            content_type,
            content_encoding,
            correlation_id,
            reply_to,
            expiration,
            message_id,
            type_,
            user_id,
            app_id,
            cluster_id,
        ] = texts;
        Properties {
            content_type,
            content_encoding,
            headers,
            delivery_mode,
            priority,
            correlation_id,
            reply_to,
            expiration,
            message_id,
            timestamp,
            type_,
            user_id,
            app_id,
            cluster_id,
        }
    })
}

proptest! {
    #[test]
    fn round_trip(properties in properties()) {
        let bytes = properties.encode().unwrap();
        let view = PropertiesView::new(&bytes);
        prop_assert_eq!(view.validate(), Ok(()));
        prop_assert_eq!(view.to_properties().unwrap(), properties);
    }

    #[test]
    fn truncation(properties in properties()) {
        let bytes = properties.encode().unwrap();
        for end in 0..bytes.len() {
            let cut = PropertiesView::new(&bytes[..end]);
            prop_assert_eq!(cut.validate(), Err(PropertiesError::Truncated));
            // A field is either there as it was, or absent.
            let last = cut.cluster_id();
            prop_assert!(last.is_none() || last == properties.cluster_id.as_deref());
            let priority = cut.priority();
            prop_assert!(priority.is_none() || priority == properties.priority);
        }
    }

    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let view = PropertiesView::new(&bytes);
        let _ = (view.headers(), view.timestamp(), view.app_id(), view.cluster_id());
        match view.validate() {
            Ok(()) => {
                let again = view.to_properties().unwrap().encode().unwrap();
                prop_assert!(PropertiesView::new(&again).validate().is_ok());
            }
            Err(_) => prop_assert!(view.to_properties().is_err()),
        }
    }
}
