//! The codec against bytes of others: a conversation of pika and RabbitMQ, and examples worked by hand from the specification.

mod codec_support;

use codec_support::{Side, conversation, from_hex, method_payload};
use wherry_amqp::codec::{
    ContentHeader, FRAME_OVERHEAD, Frame, FrameKind, Method, PROTOCOL_HEADER, PROTOCOL_HEADER_0_9,
    ProtocolHeader, ReplyCode, decode_content_header, parse_frame, parse_protocol_header,
    write_content, write_deliver, write_heartbeat,
};
use wherry_engine::properties::PropertiesView;
use wherry_engine::table::{TableView, ValueView};

const FRAME_MAX: u32 = 131_072;

fn whole(bytes: &[u8]) -> Frame<'_> {
    let (frame, consumed) = parse_frame(bytes, FRAME_MAX).unwrap().unwrap();
    assert_eq!(consumed, bytes.len());
    frame
}

#[test]
fn a_recorded_conversation_is_read_and_written_again() {
    let frames = conversation();
    assert_eq!(frames[0], (Side::Client, PROTOCOL_HEADER.to_vec()));
    let mut ids = std::collections::BTreeSet::new();
    let mut content: Option<ContentHeader<'_>> = None;
    for (_, bytes) in &frames[1..] {
        let Frame {
            kind,
            channel,
            payload,
        } = whole(bytes);
        let mut written = Vec::new();
        match kind {
            FrameKind::Method => {
                let method = Method::decode(payload).unwrap();
                ids.insert(method.id());
                method.write(channel, &mut written).unwrap();
                let mut expected = bytes.clone();
                if matches!(method, Method::ConnectionOpen { .. }) {
                    // pika sets the reserved bit that was `insist` once.
                    let last = expected.len() - 2;
                    assert_eq!(expected[last], 1);
                    expected[last] = 0;
                }
                assert_eq!(written, expected, "{method:?}");
            }
            FrameKind::Header => content = Some(decode_content_header(payload).unwrap()),
            FrameKind::Body => {
                let header = content.take().expect("a header before the body");
                assert_eq!(
                    (header.class_id, header.body_size),
                    (60, payload.len() as u64)
                );
                write_content(
                    channel,
                    60,
                    header.properties,
                    payload,
                    FRAME_MAX,
                    &mut written,
                )
                .unwrap();
                let header_bytes = FRAME_OVERHEAD + 12 + header.properties.len();
                assert_eq!(&written[header_bytes..], bytes);
            }
            FrameKind::Heartbeat => unreachable!("not in the recording"),
        }
    }
    assert_eq!(ids.len(), 57);
}

/// All that pika and RabbitMQ sent, by name: a wrong id or an exchanged pair of fields could not agree with this.
#[test]
fn recorded_methods_mean_what_was_asked_of_the_client() {
    let frames = conversation();
    let mut methods = frames[1..].iter().filter_map(|(side, bytes)| {
        let frame = whole(bytes);
        (frame.kind == FrameKind::Method)
            .then(|| (*side, frame.channel, Method::decode(frame.payload).unwrap()))
    });
    let mut next = |name: &str| {
        methods
            .find(|(_, _, method)| method.name() == name)
            .unwrap()
    };

    let (side, channel, start) = next("connection.start");
    assert_eq!((side, channel), (Side::Server, 0));
    let Method::ConnectionStart {
        version_major: 0,
        version_minor: 9,
        server_properties,
        mechanisms: b"AMQPLAIN PLAIN",
        locales: b"en_US",
    } = start
    else {
        panic!("{start:?}");
    };
    assert_eq!(
        server_properties.get("product"),
        Some(ValueView::Str(b"RabbitMQ"))
    );
    let (_, _, start_ok) = next("connection.start-ok");
    let Method::ConnectionStartOk {
        client_properties,
        mechanism: "PLAIN",
        response: b"\0guest\0guest",
        locale: "en_US",
    } = start_ok
    else {
        panic!("{start_ok:?}");
    };
    assert_eq!(
        client_properties.get("connection_name"),
        Some(ValueView::Str(b"golden"))
    );
    let tune_ok = Method::ConnectionTuneOk {
        channel_max: 2047,
        frame_max: FRAME_MAX,
        heartbeat: 60,
    };
    assert_eq!(next("connection.tune-ok").2, tune_ok);
    let open = Method::ConnectionOpen { virtual_host: "/" };
    assert_eq!(next("connection.open").2, open);
    let (side, channel, confirm) = next("confirm.select");
    assert_eq!((side, channel), (Side::Client, 1));
    assert_eq!(confirm, Method::ConfirmSelect { no_wait: false });
    let declare = Method::ExchangeDeclare {
        exchange: "golden.topic",
        kind: "topic",
        passive: false,
        durable: true,
        auto_delete: false,
        internal: false,
        no_wait: false,
        arguments: TableView::new(b"\x12alternate-exchangeS\x00\x00\x00\x0aamq.fanout"),
    };
    assert_eq!(next("exchange.declare").2, declare);
    let bind = Method::ExchangeBind {
        destination: "golden.other",
        source: "golden.topic",
        routing_key: "a.*",
        no_wait: false,
        arguments: TableView::default(),
    };
    assert_eq!(next("exchange.bind").2, bind);
    let (_, _, declare) = next("queue.declare");
    let Method::QueueDeclare {
        queue: "golden.queue",
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments,
    } = declare
    else {
        panic!("{declare:?}");
    };
    assert_eq!(arguments.get("x-message-ttl"), Some(ValueView::I32(60_000)));
    let qos = Method::BasicQos {
        prefetch_size: 0,
        prefetch_count: 50,
        global: false,
    };
    assert_eq!(next("basic.qos").2, qos);
    let publish = Method::BasicPublish {
        exchange: "golden.topic",
        routing_key: "a.b",
        mandatory: true,
        immediate: false,
    };
    assert_eq!(next("basic.publish").2, publish);
    let ack = Method::BasicAck {
        delivery_tag: 1,
        multiple: false,
    };
    assert_eq!(next("basic.ack").2, ack);
    let returned = Method::BasicReturn {
        reply_code: ReplyCode::NoRoute.code(),
        reply_text: ReplyCode::NoRoute.name(),
        exchange: "golden.topic",
        routing_key: "nowhere",
    };
    assert_eq!(next("basic.return").2, returned);
    let got = Method::BasicGetOk {
        delivery_tag: 1,
        redelivered: false,
        exchange: "golden.topic",
        routing_key: "a.b",
        message_count: 0,
    };
    assert_eq!(next("basic.get-ok").2, got);
    let nack = Method::BasicNack {
        delivery_tag: 1,
        multiple: false,
        requeue: true,
    };
    assert_eq!(next("basic.nack").2, nack);
    let (_, _, delivered) = next("basic.deliver");
    let Method::BasicDeliver {
        delivery_tag: 3,
        redelivered: true,
        exchange: "golden.topic",
        routing_key: "a.b",
        ..
    } = delivered
    else {
        panic!("{delivered:?}");
    };
    let ack = Method::BasicAck {
        delivery_tag: 3,
        multiple: true,
    };
    assert_eq!(next("basic.ack").2, ack);
    let delete = Method::QueueDelete {
        queue: "golden.queue",
        if_unused: false,
        if_empty: true,
        no_wait: false,
    };
    assert_eq!(next("queue.delete").2, delete);
    let close = Method::ChannelClose {
        reply_code: ReplyCode::NotFound.code(),
        reply_text: "NOT_FOUND - no queue 'missing' in vhost '/'",
        class_id: 50,
        method_id: 10,
    };
    assert_eq!(next("channel.close"), (Side::Server, 2, close));
    let update = Method::ConnectionUpdateSecret {
        new_secret: b"new",
        reason: "why",
    };
    assert_eq!(next("connection.update-secret").2, update);
}

#[test]
fn a_recorded_delivery_is_written_in_one_go() {
    let frames = conversation();
    let at = frames
        .iter()
        .position(|(_, bytes)| bytes[0] == 1 && bytes[7..11] == [0, 60, 0, 60])
        .expect("a delivery");
    let Method::BasicDeliver {
        consumer_tag,
        delivery_tag,
        redelivered,
        exchange,
        routing_key,
    } = Method::decode(whole(&frames[at].1).payload).unwrap()
    else {
        panic!("not a delivery");
    };
    let header = decode_content_header(whole(&frames[at + 1].1).payload).unwrap();
    let properties = PropertiesView::new(header.properties);
    assert_eq!(properties.content_type(), Some(b"text/plain".as_slice()));
    assert_eq!(properties.delivery_mode(), Some(2));
    assert_eq!(properties.timestamp(), Some(1_700_000_000));
    let body = whole(&frames[at + 2].1).payload;
    let mut written = b"before".to_vec();
    write_deliver(
        1,
        consumer_tag,
        delivery_tag,
        redelivered,
        exchange,
        routing_key,
        header.properties,
        body,
        FRAME_MAX,
        &mut written,
    )
    .unwrap();
    let recorded = frames[at..at + 3].iter().map(|(_, bytes)| bytes.as_slice());
    let expected: Vec<&[u8]> = std::iter::once(b"before".as_slice())
        .chain(recorded)
        .collect();
    assert_eq!(written, expected.concat());
}

/// Written out by hand from section 1.2 and 4.2 of the specification and RabbitMQ's extensions: what the recording lacks.
#[test]
fn bytes_of_the_specification() {
    let cases: [(Method<'_>, &str); 6] = [
        (Method::ChannelFlow { active: true }, "0014 0014 01"),
        (
            Method::ConnectionSecure { challenge: b"?" },
            "000a 0014 00000001 3f",
        ),
        (
            Method::ConnectionBlocked { reason: "low" },
            "000a 003c 03 6c6f77",
        ),
        (Method::ConnectionUnblocked {}, "000a 003d"),
        (
            // Five flags in one octet: exclusive 1, passive 2, active 4, write 8, read 16.
            Method::AccessRequest {
                realm: "/data",
                exclusive: false,
                passive: true,
                active: true,
                write: true,
                read: false,
            },
            "001e 000a 05 2f64617461 0e",
        ),
        (Method::BasicRecoverAsync { requeue: false }, "003c 0064 00"),
    ];
    for (method, digits) in cases {
        let payload = from_hex(&digits.replace(' ', ""));
        assert_eq!(Method::decode(&payload), Ok(method));
        let mut written = Vec::new();
        method.write(0x0102, &mut written).unwrap();
        let size = (payload.len() as u32).to_be_bytes();
        assert_eq!(
            written,
            [b"\x01\x01\x02", size.as_slice(), &payload, b"\xce"].concat()
        );
    }
    let mut heartbeat = Vec::new();
    write_heartbeat(&mut heartbeat);
    assert_eq!(heartbeat, b"\x08\x00\x00\x00\x00\x00\x00\xce");
    assert_eq!(whole(&heartbeat).kind, FrameKind::Heartbeat);
}

#[test]
fn reserved_fields_and_unused_bits_are_not_looked_at() {
    let payload = method_payload(60, 40, &[b"\x12\x34", b"\x01e", b"\x01k", b"\xfe"]);
    let publish = Method::BasicPublish {
        exchange: "e",
        routing_key: "k",
        mandatory: false,
        immediate: true,
    };
    assert_eq!(Method::decode(&payload), Ok(publish));
    let payload = method_payload(10, 40, &[b"\x01/", b"\x04some", b"\xff"]);
    let open = Method::ConnectionOpen { virtual_host: "/" };
    assert_eq!(Method::decode(&payload), Ok(open));
    // Any octet but 0 in a bit field with a single bit is judged by that bit alone.
    let payload = method_payload(85, 10, &[b"\x02"]);
    assert_eq!(
        Method::decode(&payload),
        Ok(Method::ConfirmSelect { no_wait: false })
    );
}

#[test]
fn the_protocol_header_is_judged_at_the_first_octet_that_is_not_its_own() {
    let taken = [PROTOCOL_HEADER, PROTOCOL_HEADER_0_9];
    for header in taken {
        for length in 0..8 {
            assert_eq!(parse_protocol_header(&header[..length]), None);
            for other in 0..=255 {
                let bytes = [&header[..length], &[other]].concat();
                if !taken.iter().any(|header| header.starts_with(&bytes)) {
                    assert_eq!(parse_protocol_header(&bytes), Some(ProtocolHeader::Other));
                }
            }
        }
        assert_eq!(
            parse_protocol_header(&header),
            Some(ProtocolHeader::Amqp091)
        );
    }
    let mut bytes = PROTOCOL_HEADER.to_vec();
    assert_eq!(parse_protocol_header(&bytes), Some(ProtocolHeader::Amqp091));
    bytes.push(7);
    assert_eq!(parse_protocol_header(&bytes), Some(ProtocolHeader::Amqp091));
    for other in [
        b"AMQP\x00\x00\x09\x00".as_slice(),
        b"AMQP\x03\x01\x00\x00",
        b"GET / HT",
    ] {
        assert_eq!(parse_protocol_header(other), Some(ProtocolHeader::Other));
    }
}

#[test]
fn reply_codes_carry_the_names_and_severities_of_the_specification() {
    let soft: Vec<u16> = ReplyCode::ALL
        .iter()
        .filter(|code| !code.is_hard())
        .map(|code| code.code())
        .collect();
    assert_eq!(soft, [200, 311, 312, 313, 403, 404, 405, 406]);
    let hard: Vec<u16> = ReplyCode::ALL
        .iter()
        .filter(|code| code.is_hard())
        .map(|code| code.code())
        .collect();
    assert_eq!(
        hard,
        [320, 402, 501, 502, 503, 504, 505, 506, 530, 540, 541]
    );
    for code in ReplyCode::ALL {
        // The name is the variant's, in capitals.
        let variant = format!("{code:?}").to_uppercase();
        assert_eq!(code.name().replace('_', ""), variant);
    }
    assert_eq!(ReplyCode::PreconditionFailed.name(), "PRECONDITION_FAILED");
}
