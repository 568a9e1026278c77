//! Bytes a peer sends to hurt: each case is from an advisory about some broker, or one step from it.

mod codec_support;

use codec_support::{Fields, every_method, method_payload};
use wherry_amqp::codec::{
    ContentError, FRAME_END, FrameError, FrameKind, Method, MethodError, decode_content_header,
    method_ids, parse_frame,
};
use wherry_engine::properties::PropertiesError;
use wherry_engine::table::{BYTES_MAX, DEPTH_MAX, TableError};

fn head(kind: u8, size: u32) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 1];
    bytes.extend(size.to_be_bytes());
    bytes
}

/// queue.declare with these bytes as its arguments.
fn declare(arguments: &[u8]) -> Vec<u8> {
    let length = (arguments.len() as u32).to_be_bytes();
    method_payload(50, 10, &[b"\0\0", b"\x01q", b"\0", &length, arguments])
}

fn table_error(arguments: &[u8]) -> Option<TableError> {
    match Method::decode(&declare(arguments)) {
        Ok(_) => None,
        Err(MethodError::Table(error)) => Some(error),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_huge_size_is_refused_when_its_last_octet_is_there() {
    for kind in [
        FrameKind::Method,
        FrameKind::Header,
        FrameKind::Body,
        FrameKind::Heartbeat,
    ] {
        for size in [
            4097,
            1 << 20,
            0x7fff_ffff,
            0x8000_0000,
            u32::MAX - 8,
            u32::MAX - 7,
            u32::MAX,
        ] {
            let bytes = head(kind as u8, size);
            for length in 0..bytes.len() {
                assert_eq!(parse_frame(&bytes[..length], 4096), Ok(None));
            }
            let error = FrameError::TooLarge {
                kind,
                bytes: u64::from(size) + 8,
                bytes_max: 4096,
            };
            assert_eq!(parse_frame(&bytes, 4096), Err(error));
            // Without a limit the frame is waited for: the session must not ask for that.
            assert_eq!(parse_frame(&bytes, 0), Ok(None));
        }
    }
    let error = parse_frame(&head(1, u32::MAX), 131_072).unwrap_err();
    assert_eq!(
        error.to_string(),
        "type 1, all octets = <<>>: {frame_too_large,4294967295,131064}"
    );
}

#[test]
fn an_unknown_kind_is_refused_by_its_first_octet() {
    for octet in 0..=u8::MAX {
        let expected = match octet {
            1 | 2 | 3 | 8 => Ok(None),
            _ => Err(FrameError::UnknownKind(octet)),
        };
        assert_eq!(parse_frame(&[octet], 4096), expected);
    }
    let text = FrameError::UnknownKind(4).to_string();
    assert_eq!(text, "type 4, all octets = <<>>: unknown_frame");
}

#[test]
fn every_other_end_octet_is_refused() {
    let mut bytes = head(1, 4);
    bytes.extend(b"\x00\x5a\x00\x0a\x00");
    for end in (0..=u8::MAX).filter(|octet| *octet != FRAME_END) {
        *bytes.last_mut().unwrap() = end;
        let error = FrameError::BadEnd {
            kind: FrameKind::Method,
            end,
        };
        assert_eq!(parse_frame(&bytes, 4096), Err(error));
    }
    let error = parse_frame(b"\x08\0\0\0\0\0\0\0", 4096).unwrap_err();
    assert_eq!(
        error.to_string(),
        "type 8, all octets = <<>>: {invalid_frame_end_marker,0}"
    );
}

#[test]
fn empty_bodies_and_heartbeats_with_content_are_frames_for_the_session_to_judge() {
    let mut empty = head(3, 0);
    empty.push(FRAME_END);
    let (frame, consumed) = parse_frame(&empty, 4096).unwrap().unwrap();
    // Eight bytes each: a flood of them is at least work for the sender too.
    assert_eq!(
        (frame.kind, frame.payload.len(), consumed),
        (FrameKind::Body, 0, 8)
    );
    let mut heartbeat = head(8, 1);
    heartbeat.extend([7, FRAME_END]);
    let (frame, _) = parse_frame(&heartbeat, 4096).unwrap().unwrap();
    assert_eq!(
        (frame.kind, frame.channel, frame.payload),
        (FrameKind::Heartbeat, 1, &[7_u8] as &[u8])
    );
}

#[test]
fn wrong_classes_and_methods_are_named_in_the_error() {
    for (class_id, method_id) in [
        (0, 0),
        (60, 99),
        (61, 10),
        (65535, 65535),
        (40, 41),
        (10, 0),
    ] {
        let payload = method_payload(class_id, method_id, &[b"anything"]);
        let error = Method::decode(&payload).unwrap_err();
        assert_eq!(
            error,
            MethodError::Unknown {
                class_id,
                method_id
            }
        );
        assert_eq!(method_ids(&payload), Some((class_id, method_id)));
        let text = error.to_string();
        assert_eq!(
            text,
            format!("unknown method {method_id} of class {class_id}")
        );
    }
    for length in 0..4 {
        assert_eq!(method_ids(&[60; 4][..length]), None);
        assert_eq!(
            Method::decode(&[60; 4][..length]),
            Err(MethodError::Truncated)
        );
    }
}

#[test]
fn lengths_behind_the_end_are_refused() {
    for length in [2_u32, 0x7fff_ffff, 0x8000_0000, u32::MAX - 3, u32::MAX] {
        let length = length.to_be_bytes();
        // A long string: connection.secure-ok.
        let payload = method_payload(10, 21, &[&length, b"x"]);
        assert_eq!(Method::decode(&payload), Err(MethodError::Truncated));
        // A table: queue.declare.
        let payload = method_payload(50, 10, &[b"\0\0\x01q\0", &length, b"x"]);
        assert_eq!(Method::decode(&payload), Err(MethodError::Truncated));
        // A text, and a table, inside a table.
        for letter in [b"S", b"F", b"A", b"x"] {
            let arguments = [b"\x01k", letter.as_slice(), &length, b"x"].concat();
            assert_eq!(table_error(&arguments), Some(TableError::Truncated));
        }
    }
    for length in [2, 255] {
        let payload = method_payload(60, 31, &[&[length], b"x"]);
        assert_eq!(Method::decode(&payload), Err(MethodError::Truncated));
    }
}

#[test]
fn tables_and_arrays_in_each_other_are_refused_behind_a_few_levels() {
    for letter in [b'F', b'A'] {
        // Level 1 is the table of arguments itself.
        let nested = |levels: usize| {
            let mut value = Vec::new();
            for level in 1..levels {
                let name: &[u8] = if letter == b'F' || level + 1 == levels {
                    b"\0"
                } else {
                    b""
                };
                let length = (value.len() as u32).to_be_bytes();
                value = [name, &[letter], &length, &value].concat();
            }
            value
        };
        assert_eq!(table_error(&nested(DEPTH_MAX)), None);
        assert_eq!(
            table_error(&nested(DEPTH_MAX + 1)),
            Some(TableError::TooDeep)
        );
        assert_eq!(table_error(&nested(10_000)), Some(TableError::TooDeep));
        // The same as message headers.
        let headers = nested(10_000);
        let length = (headers.len() as u32).to_be_bytes();
        let payload = [
            b"\0\x3c\0\0".as_slice(),
            &[0; 8],
            b"\x20\0",
            &length,
            &headers,
        ]
        .concat();
        let error = PropertiesError::Headers(TableError::TooDeep);
        assert_eq!(
            decode_content_header(&payload),
            Err(ContentError::Properties(error))
        );
    }
}

#[test]
fn many_values_without_bytes_are_read_in_one_pass() {
    let voids = vec![b'V'; 100_000];
    let length = (voids.len() as u32).to_be_bytes();
    assert_eq!(
        table_error(&[b"\x01kA", length.as_slice(), &voids].concat()),
        None
    );
}

#[test]
fn a_table_over_the_limit_is_refused_whatever_it_holds() {
    assert_eq!(
        table_error(&vec![0; BYTES_MAX + 1]),
        Some(TableError::TooLong)
    );
    let value = vec![b'x'; BYTES_MAX - 7];
    let length = (value.len() as u32).to_be_bytes();
    assert_eq!(
        table_error(&[b"\x01kx", length.as_slice(), &value].concat()),
        None
    );
    assert_eq!(table_error(b"\x01k?"), Some(TableError::UnknownType(b'?')));
    let text = MethodError::from(TableError::UnknownType(b'?')).to_string();
    assert_eq!(text, "unknown field type '?'");
}

/// Every text field of every method in turn, so that none is read unchecked.
#[test]
fn short_strings_that_are_not_utf_8_are_refused() {
    let mut refused = 0;
    for index in 0..3 {
        let mut fields = Fields::default();
        fields.texts[index] = "#####".to_owned();
        for method in every_method(&fields) {
            let mut bytes = Vec::new();
            method.write(1, &mut bytes).unwrap();
            let mut payload = bytes[7..bytes.len() - 1].to_vec();
            let Some(at) = payload.windows(5).position(|window| window == b"#####") else {
                continue;
            };
            payload[at + 4] = 0xe9;
            assert_eq!(
                Method::decode(&payload),
                Err(MethodError::NotUtf8),
                "{method:?}"
            );
            refused += 1;
        }
    }
    assert_eq!(refused, 26 + 11 + 6);
    assert_eq!(
        MethodError::NotUtf8.to_string(),
        "Malformed UTF-8 in shortstr"
    );
}

#[test]
fn content_headers_are_checked_whole() {
    let header = |weight: u16, size: u64, properties: &[u8]| {
        let mut payload = b"\0\x3c".to_vec();
        payload.extend(weight.to_be_bytes());
        payload.extend(size.to_be_bytes());
        payload.extend(properties);
        payload
    };
    // Sizes are only read: nothing is taken for them.
    for size in [0, 1 << 63, u64::MAX] {
        let payload = header(0, size, b"\0\0");
        assert_eq!(decode_content_header(&payload).unwrap().body_size, size);
    }
    for weight in [1, 256, u16::MAX] {
        let payload = header(weight, 0, b"\0\0");
        let error = decode_content_header(&payload);
        assert_eq!(error, Err(ContentError::Weight(weight)));
    }
    let cases: [(&[u8], PropertiesError); 9] = [
        (b"", PropertiesError::Truncated),
        (b"\0", PropertiesError::Truncated),
        (b"\0\0x", PropertiesError::TrailingBytes),
        (b"\x10\0", PropertiesError::Truncated),
        (b"\x10\0\x02x", PropertiesError::TrailingBytes),
        (b"\x80\0\x05abcd", PropertiesError::Truncated),
        (b"\x20\0\xff\xff\xff\xff", PropertiesError::Truncated),
        (b"\0\x01", PropertiesError::UnknownFlag),
        (b"\0\x02", PropertiesError::UnknownFlag),
    ];
    for (properties, expected) in cases {
        let payload = header(0, 0, properties);
        let error = decode_content_header(&payload);
        assert_eq!(
            error,
            Err(ContentError::Properties(expected)),
            "{properties:?}"
        );
    }
    let payload = header(0, 0, b"");
    for length in 0..12 {
        assert_eq!(
            decode_content_header(&payload[..length]),
            Err(ContentError::Truncated)
        );
    }
}
