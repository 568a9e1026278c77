//! A peer's bytes through the AMQP codec.
//!
//! Invariants tested: nothing panics; a prefix of the bytes is answered with "more" or with what the whole says, wherever it is cut;
//! `consumed` counts the frame and no more; a method that was accepted is written and read again as the same; so is content, and its
//! properties can be read by every accessor.
//!
//! Input: one octet that chooses `frame_max`, one that chooses where the bytes are cut, then the stream behind a protocol header.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wherry_amqp::codec::{
    FRAME_OVERHEAD, FrameKind, Method, decode_content_header, method_ids, parse_frame,
    parse_protocol_header, write_content, write_deliver,
};
use wherry_engine::properties::PropertiesView;

fuzz_target!(|input: &[u8]| {
    let [limit, cut, stream @ ..] = input else {
        return;
    };
    let _ = parse_protocol_header(stream);
    let frame_max = match limit % 4 {
        0 => 0,
        1 => 64,
        2 => 4096,
        _ => 131_072,
    };
    let mut rest = stream;
    loop {
        let parsed = parse_frame(rest, frame_max);
        let prefix = &rest[..rest.len() * usize::from(*cut) / 256];
        let prefix_parsed = parse_frame(prefix, frame_max);
        assert!(prefix_parsed == Ok(None) || prefix_parsed == parsed);
        let Ok(Some((frame, consumed))) = parsed else {
            return;
        };
        assert_eq!(consumed, frame.payload.len() + FRAME_OVERHEAD);
        assert!(frame_max == 0 || frame.payload.len() <= frame_max as usize);
        match frame.kind {
            FrameKind::Method => method(frame.channel, frame.payload),
            FrameKind::Header => header(frame.channel, frame.payload),
            FrameKind::Body | FrameKind::Heartbeat => {}
        }
        rest = &rest[consumed..];
    }
});

fn method(channel: u16, payload: &[u8]) {
    let method = match Method::decode(payload) {
        Ok(method) => method,
        Err(error) => return drop(error.to_string()),
    };
    assert_eq!(method_ids(payload), Some(method.id()));
    let mut written = Vec::new();
    method
        .write(channel, &mut written)
        .expect("what was read can be written");
    let (frame, consumed) = parse_frame(&written, 0)
        .expect("a frame")
        .expect("a whole frame");
    assert_eq!((frame.channel, consumed), (channel, written.len()));
    assert_eq!(Method::decode(frame.payload), Ok(method));
    if let Method::BasicDeliver {
        consumer_tag,
        delivery_tag,
        redelivered,
        exchange,
        routing_key,
    } = method
    {
        let mut delivery = Vec::new();
        write_deliver(
            channel,
            consumer_tag,
            delivery_tag,
            redelivered,
            exchange,
            routing_key,
            &[],
            b"",
            0,
            &mut delivery,
        )
        .expect("what was read can be written");
        assert!(delivery.starts_with(&written));
    }
}

fn header(channel: u16, payload: &[u8]) {
    let header = match decode_content_header(payload) {
        Ok(header) => header,
        Err(error) => return drop(error.to_string()),
    };
    // The announced size is a number from outside: only its low end is made into a body.
    let body = vec![0; (header.body_size % 10_000) as usize];
    let mut written = Vec::new();
    write_content(
        channel,
        header.class_id,
        header.properties,
        &body,
        4096,
        &mut written,
    )
    .expect("what was read can be written");
    let (frame, _) = parse_frame(&written, 0)
        .expect("a frame")
        .expect("a whole frame");
    let again = decode_content_header(frame.payload).expect("a content header");
    assert_eq!(again.properties, header.properties);
    assert_eq!(
        (again.class_id, again.body_size),
        (header.class_id, body.len() as u64)
    );

    let view = PropertiesView::new(header.properties);
    let texts = [
        view.content_type(),
        view.content_encoding(),
        view.correlation_id(),
        view.reply_to(),
        view.expiration(),
        view.message_id(),
        view.type_(),
        view.user_id(),
        view.app_id(),
        view.cluster_id(),
    ];
    let flags = u16::from_be_bytes([header.properties[0], header.properties[1]]);
    let present = texts.iter().filter(|text| text.is_some()).count()
        + usize::from(view.headers().is_some())
        + usize::from(view.delivery_mode().is_some())
        + usize::from(view.priority().is_some())
        + usize::from(view.timestamp().is_some());
    assert_eq!(present, flags.count_ones() as usize);
}
