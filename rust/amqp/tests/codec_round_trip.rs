//! What is written is read again, whatever the fields are and however the bytes are cut.

mod codec_support;

use codec_support::{Fields, conversation, every_method};
use proptest::prelude::*;
use wherry_amqp::codec::{
    EncodeError, FRAME_MIN_SIZE, FRAME_OVERHEAD, Frame, FrameError, FrameKind, Method, MethodError,
    decode_content_header, method_ids, parse_frame, write_content, write_deliver,
};
use wherry_engine::table::{Table, Value};

const FRAME_MAX: u32 = 131_072;

/// All frames of `bytes`, which must end with one.
fn frames(mut bytes: &[u8], frame_max: u32) -> Vec<Frame<'_>> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (frame, consumed) = parse_frame(bytes, frame_max)
            .unwrap()
            .expect("a whole frame");
        frames.push(frame);
        bytes = &bytes[consumed..];
    }
    frames
}

fn text() -> impl Strategy<Value = String> {
    // Up to 255 bytes in UTF-8.
    prop_oneof!["\\PC{0,60}", "[a-z.]{0,255}"]
}

fn table() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::I64),
        text().prop_map(Value::from),
        prop::collection::vec(any::<i32>().prop_map(Value::I32), 0..4).prop_map(Value::Array),
    ];
    prop::collection::vec(("[a-z-]{0,20}", value), 0..5).prop_map(|fields| {
        Table::from_iter(fields)
            .encode()
            .expect("within the limits")
    })
}

fn fields() -> impl Strategy<Value = Fields> {
    let long = || prop::collection::vec(any::<u8>(), 0..300);
    (
        [text(), text(), text()],
        [long(), long()],
        table(),
        any::<u64>(),
        any::<[u32; 2]>(),
        any::<[bool; 5]>(),
    )
        .prop_map(|(texts, longs, table, number, numbers, bits)| Fields {
            texts,
            longs,
            table,
            number,
            numbers,
            bits,
        })
}

proptest! {
    #[test]
    fn every_method_round_trips(fields in fields(), channel in any::<u16>()) {
        for method in every_method(&fields) {
            let mut bytes = b"before".to_vec();
            method.write(channel, &mut bytes).unwrap();
            let (frame, consumed) = parse_frame(&bytes[6..], FRAME_MAX).unwrap().unwrap();
            prop_assert_eq!(consumed, bytes.len() - 6);
            prop_assert_eq!((frame.kind, frame.channel), (FrameKind::Method, channel));
            prop_assert_eq!(method_ids(frame.payload), Some(method.id()));
            prop_assert_eq!(Method::decode(frame.payload), Ok(method));
        }
    }

    #[test]
    fn content_is_divided_and_comes_together_again(
        body in prop::collection::vec(any::<u8>(), 0..20_000),
        frame_max in prop_oneof![Just(0), 1..5_000_u32, Just(u32::MAX)],
        channel in any::<u16>(),
        class_id in any::<u16>(),
        priority in any::<Option<u8>>(),
    ) {
        let properties = match priority {
            Some(priority) => vec![0x08, 0x00, priority],
            None => Vec::new(),
        };
        let mut bytes = Vec::new();
        write_content(channel, class_id, &properties, &body, frame_max, &mut bytes).unwrap();
        let frames = frames(&bytes, 0);
        prop_assert!(frames.iter().all(|frame| frame.channel == channel));
        prop_assert_eq!(frames[0].kind, FrameKind::Header);
        let header = decode_content_header(frames[0].payload).unwrap();
        prop_assert_eq!((header.class_id, header.body_size), (class_id, body.len() as u64));
        let expected = if priority.is_some() { properties.as_slice() } else { &[0, 0] };
        prop_assert_eq!(header.properties, expected);
        prop_assert!(frames[1..].iter().all(|frame| frame.kind == FrameKind::Body));
        let pieces: Vec<&[u8]> = frames[1..].iter().map(|frame| frame.payload).collect();
        prop_assert_eq!(pieces.concat(), body.clone());
        // As few frames as the limit allows, and none of them empty.
        let limit = if frame_max == 0 { u32::MAX } else { frame_max.max(FRAME_MIN_SIZE) };
        let piece_max = limit as usize - FRAME_OVERHEAD;
        prop_assert_eq!(pieces.len(), body.len().div_ceil(piece_max));
        prop_assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= piece_max));
    }

    #[test]
    fn a_delivery_in_one_go_is_its_method_and_its_content(
        fields in fields(),
        channel in any::<u16>(),
        properties in prop_oneof![Just(vec![]), Just(vec![0x10, 0x00, 2])],
        body in prop::collection::vec(any::<u8>(), 0..9_000),
        frame_max in prop_oneof![Just(0), Just(FRAME_MIN_SIZE), Just(FRAME_MAX)],
    ) {
        let [tag, exchange, key] = &fields.texts;
        let deliver = Method::BasicDeliver {
            consumer_tag: tag,
            delivery_tag: fields.number,
            redelivered: fields.bits[0],
            exchange,
            routing_key: key,
        };
        let mut parts = Vec::new();
        deliver.write(channel, &mut parts).unwrap();
        write_content(channel, 60, &properties, &body, frame_max, &mut parts).unwrap();
        let mut whole = Vec::new();
        write_deliver(
            channel, tag, fields.number, fields.bits[0], exchange, key, &properties, &body, frame_max, &mut whole,
        )
        .unwrap();
        prop_assert_eq!(whole, parts);
    }

    /// Whatever bytes come: the answer about a prefix is "more", or what the whole says.
    #[test]
    fn a_prefix_never_says_something_else(
        kind in prop_oneof![Just(1), Just(2), Just(3), Just(8), any::<u8>()],
        rest in prop::collection::vec(any::<u8>(), 0..40),
        size in prop_oneof![0..40_u32, any::<u32>()],
        end in prop_oneof![Just(0xce), any::<u8>()],
        frame_max in prop_oneof![Just(0), Just(20), Just(FRAME_MIN_SIZE)],
    ) {
        let mut bytes = vec![kind, 0, 1];
        bytes.extend(size.to_be_bytes());
        bytes.extend(&rest);
        if let Some(at) = bytes.get_mut(7 + size as usize) {
            *at = end;
        }
        let whole = parse_frame(&bytes, frame_max);
        for length in 0..bytes.len() {
            let prefix = parse_frame(&bytes[..length], frame_max);
            prop_assert!(prefix == whole || prefix == Ok(None), "{:?} of {:?}", prefix, whole);
        }
    }
}

#[test]
fn the_conversation_reads_the_same_however_it_is_cut() {
    let all = conversation();
    let stream: Vec<u8> = all[1..]
        .iter()
        .flat_map(|(_, bytes)| bytes.clone())
        .collect();
    let expected = frames(&stream, FRAME_MAX);
    for cut in 0..=stream.len() {
        // What was whole in the first part, then the rest from there.
        let mut seen = Vec::new();
        let mut at = 0;
        for end in [cut, stream.len()] {
            while let Some((frame, consumed)) = parse_frame(&stream[at..end], FRAME_MAX).unwrap() {
                seen.push(frame);
                at += consumed;
            }
        }
        assert_eq!(seen, expected, "cut at {cut}");
    }
    // Octet by octet.
    let mut seen = 0;
    let mut at = 0;
    for end in 0..=stream.len() {
        if let Some((frame, consumed)) = parse_frame(&stream[at..end], FRAME_MAX).unwrap() {
            assert_eq!(frame, expected[seen]);
            assert_eq!(at + consumed, end);
            seen += 1;
            at = end;
        }
    }
    assert_eq!(seen, expected.len());
}

#[test]
fn a_method_cut_short_or_prolonged_is_refused_at_every_length() {
    let fields = Fields::default();
    for method in every_method(&fields) {
        let mut bytes = Vec::new();
        method.write(1, &mut bytes).unwrap();
        let mut payload = bytes[7..bytes.len() - 1].to_vec();
        for length in 0..payload.len() {
            let error = Method::decode(&payload[..length]);
            assert_eq!(error, Err(MethodError::Truncated), "{method:?} at {length}");
        }
        payload.push(0);
        assert_eq!(
            Method::decode(&payload),
            Err(MethodError::TrailingBytes),
            "{method:?}"
        );
    }
}

#[test]
fn the_list_of_methods_is_complete_and_named_after_its_variants() {
    let fields = Fields::default();
    let methods = every_method(&fields);
    let mut listed: Vec<(u16, u16)> = methods.iter().map(Method::id).collect();
    listed.sort_unstable();
    let mut known = Vec::new();
    for class_id in 0..200_u16 {
        for method_id in 0..200_u16 {
            let ids = [class_id.to_be_bytes(), method_id.to_be_bytes()].concat();
            let unknown = MethodError::Unknown {
                class_id,
                method_id,
            };
            if Method::decode(&ids) != Err(unknown) {
                known.push((class_id, method_id));
            }
        }
    }
    assert_eq!(known, listed);
    assert_eq!(listed.len(), 66);
    for method in &methods {
        let debug = format!("{method:?}").to_lowercase();
        let name = method.name().replace(['.', '-'], "");
        assert_eq!(debug.split(' ').next(), Some(name.as_str()));
    }
    let with_content = methods.iter().filter(|method| method.has_content());
    let names: Vec<&str> = with_content.map(Method::name).collect();
    assert_eq!(
        names,
        [
            "basic.publish",
            "basic.return",
            "basic.deliver",
            "basic.get-ok"
        ]
    );
}

#[test]
fn a_text_that_does_not_fit_is_an_error_and_nothing_is_written() {
    for index in 0..3 {
        let mut fields = Fields::default();
        fields.texts[index] = "é".repeat(127) + "x";
        assert_eq!(fields.texts[index].len(), 255);
        let mut bytes = b"before".to_vec();
        for method in every_method(&fields) {
            bytes.truncate(6);
            method.write(1, &mut bytes).unwrap();
            assert_eq!(Method::decode(&bytes[13..bytes.len() - 1]), Ok(method));
        }
        // 256 bytes: a length octet that wraps round would be 0.
        fields.texts[index].push('x');
        let mut refused = 0;
        for method in every_method(&fields) {
            bytes.truncate(6);
            match method.write(1, &mut bytes) {
                Ok(()) => assert!(!format!("{method:?}").contains('é'), "{method:?}"),
                Err(error) => {
                    assert_eq!(error, EncodeError::ShortStringTooLong);
                    assert_eq!(bytes, b"before");
                    refused += 1;
                }
            }
        }
        // How many methods have a first, a second, a third text.
        assert_eq!(refused, [26, 11, 6][index]);
        bytes.truncate(6);
        let [tag, exchange, key] = &fields.texts;
        let error = write_deliver(1, tag, 1, false, exchange, key, &[], b"", 0, &mut bytes);
        assert_eq!(error, Err(EncodeError::ShortStringTooLong));
        assert_eq!(bytes, b"before");
    }
}

#[test]
fn frames_up_to_the_negotiated_size_with_its_grace_are_taken() {
    let frame = |size: u32| {
        let mut bytes = b"\x03\x00\x01".to_vec();
        bytes.extend(size.to_be_bytes());
        bytes.resize(bytes.len() + size as usize, b'x');
        bytes.push(0xce);
        bytes
    };
    // RabbitMQ 3.10.8 takes 4096 bytes of payload at a frame_max of 4096, and refuses 4097.
    for size in [0, 1, 4088, 4089, 4096] {
        let bytes = frame(size);
        let (parsed, consumed) = parse_frame(&bytes, 4096).unwrap().unwrap();
        assert_eq!(
            (parsed.payload.len(), consumed),
            (size as usize, bytes.len())
        );
    }
    let error = parse_frame(&frame(4097), 4096).unwrap_err();
    let expected = FrameError::TooLarge {
        kind: FrameKind::Body,
        bytes: 4105,
        bytes_max: 4096,
    };
    assert_eq!(error, expected);
    assert_eq!(
        error.to_string(),
        "type 3, all octets = <<>>: {frame_too_large,4097,4088}"
    );
    assert!(parse_frame(&frame(4097), 0).unwrap().is_some());
}
