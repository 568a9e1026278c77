//! What the codec's tests share: every method over given fields, and the recorded conversation.
//!
//! `data/pika_rabbitmq.txt` was recorded between pika 1.4.4 and RabbitMQ 3.10.8, one frame a line; it uses 57 of the methods.
#![allow(
    dead_code,
    reason = "each file of tests takes what it needs of the shared module"
)]

use wherry_amqp::codec::Method;
use wherry_engine::table::TableView;

/// Who sent a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// The frames of the recorded conversation; the first is the client's protocol header.
pub(crate) fn conversation() -> Vec<(Side, Vec<u8>)> {
    let lines = include_str!("../data/pika_rabbitmq.txt").lines();
    let frames = lines.filter(|line| !line.starts_with('#')).map(|line| {
        let side = match &line[..2] {
            "C " => Side::Client,
            "S " => Side::Server,
            _ => panic!("who sent {line}"),
        };
        (side, from_hex(&line[2..]))
    });
    frames.collect()
}

pub(crate) fn from_hex(digits: &str) -> Vec<u8> {
    assert!(digits.len().is_multiple_of(2));
    let octets = (0..digits.len()).step_by(2);
    octets
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal"))
        .collect()
}

/// A method frame of raw fields: what no encoder of ours would write.
pub(crate) fn method_payload(class_id: u16, method_id: u16, fields: &[&[u8]]) -> Vec<u8> {
    let mut payload = [class_id.to_be_bytes(), method_id.to_be_bytes()].concat();
    fields
        .iter()
        .for_each(|field| payload.extend_from_slice(field));
    payload
}

/// What methods are filled with.
#[derive(Clone, Debug)]
pub(crate) struct Fields {
    pub(crate) texts: [String; 3],
    pub(crate) longs: [Vec<u8>; 2],
    pub(crate) table: Vec<u8>,
    pub(crate) number: u64,
    pub(crate) numbers: [u32; 2],
    pub(crate) bits: [bool; 5],
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            texts: ["first", "second", "third"].map(str::to_owned),
            longs: [b"long".to_vec(), b"\x00\xff".to_vec()],
            table: b"\x01kt\x01".to_vec(),
            number: 1 << 40,
            numbers: [70_000, 3],
            bits: [true, false, true, true, false],
        }
    }
}

/// Every method there is, filled with `fields`.
pub(crate) fn every_method(fields: &Fields) -> Vec<Method<'_>> {
    let [a, b, c] = fields.texts.each_ref().map(String::as_str);
    let [long, other_long] = fields.longs.each_ref().map(Vec::as_slice);
    let arguments = TableView::new(&fields.table);
    let delivery_tag = fields.number;
    let [n, m] = fields.numbers;
    let [short, other_short] = [n as u16, m as u16];
    let [p, q, r, s, t] = fields.bits;
    vec![
        Method::ConnectionStart {
            version_major: n as u8,
            version_minor: m as u8,
            server_properties: arguments,
            mechanisms: long,
            locales: other_long,
        },
        Method::ConnectionStartOk {
            client_properties: arguments,
            mechanism: a,
            response: long,
            locale: b,
        },
        Method::ConnectionSecure { challenge: long },
        Method::ConnectionSecureOk { response: long },
        Method::ConnectionTune {
            channel_max: short,
            frame_max: n,
            heartbeat: other_short,
        },
        Method::ConnectionTuneOk {
            channel_max: short,
            frame_max: n,
            heartbeat: other_short,
        },
        Method::ConnectionOpen { virtual_host: a },
        Method::ConnectionOpenOk {},
        Method::ConnectionClose {
            reply_code: short,
            reply_text: a,
            class_id: other_short,
            method_id: short,
        },
        Method::ConnectionCloseOk {},
        Method::ConnectionBlocked { reason: a },
        Method::ConnectionUnblocked {},
        Method::ConnectionUpdateSecret {
            new_secret: long,
            reason: a,
        },
        Method::ConnectionUpdateSecretOk {},
        Method::ChannelOpen {},
        Method::ChannelOpenOk {},
        Method::ChannelFlow { active: p },
        Method::ChannelFlowOk { active: p },
        Method::ChannelClose {
            reply_code: short,
            reply_text: a,
            class_id: other_short,
            method_id: short,
        },
        Method::ChannelCloseOk {},
        Method::AccessRequest {
            realm: a,
            exclusive: p,
            passive: q,
            active: r,
            write: s,
            read: t,
        },
        Method::AccessRequestOk { ticket: short },
        Method::ExchangeDeclare {
            exchange: a,
            kind: b,
            passive: p,
            durable: q,
            auto_delete: r,
            internal: s,
            no_wait: t,
            arguments,
        },
        Method::ExchangeDeclareOk {},
        Method::ExchangeDelete {
            exchange: a,
            if_unused: p,
            no_wait: q,
        },
        Method::ExchangeDeleteOk {},
        Method::ExchangeBind {
            destination: a,
            source: b,
            routing_key: c,
            no_wait: p,
            arguments,
        },
        Method::ExchangeBindOk {},
        Method::ExchangeUnbind {
            destination: a,
            source: b,
            routing_key: c,
            no_wait: p,
            arguments,
        },
        Method::ExchangeUnbindOk {},
        Method::QueueDeclare {
            queue: a,
            passive: p,
            durable: q,
            exclusive: r,
            auto_delete: s,
            no_wait: t,
            arguments,
        },
        Method::QueueDeclareOk {
            queue: a,
            message_count: n,
            consumer_count: m,
        },
        Method::QueueBind {
            queue: a,
            exchange: b,
            routing_key: c,
            no_wait: p,
            arguments,
        },
        Method::QueueBindOk {},
        Method::QueuePurge {
            queue: a,
            no_wait: p,
        },
        Method::QueuePurgeOk { message_count: n },
        Method::QueueDelete {
            queue: a,
            if_unused: p,
            if_empty: q,
            no_wait: r,
        },
        Method::QueueDeleteOk { message_count: n },
        Method::QueueUnbind {
            queue: a,
            exchange: b,
            routing_key: c,
            arguments,
        },
        Method::QueueUnbindOk {},
        Method::BasicQos {
            prefetch_size: n,
            prefetch_count: other_short,
            global: p,
        },
        Method::BasicQosOk {},
        Method::BasicConsume {
            queue: a,
            consumer_tag: b,
            no_local: p,
            no_ack: q,
            exclusive: r,
            no_wait: s,
            arguments,
        },
        Method::BasicConsumeOk { consumer_tag: a },
        Method::BasicCancel {
            consumer_tag: a,
            no_wait: p,
        },
        Method::BasicCancelOk { consumer_tag: a },
        Method::BasicPublish {
            exchange: a,
            routing_key: b,
            mandatory: p,
            immediate: q,
        },
        Method::BasicReturn {
            reply_code: short,
            reply_text: a,
            exchange: b,
            routing_key: c,
        },
        Method::BasicDeliver {
            consumer_tag: a,
            delivery_tag,
            redelivered: p,
            exchange: b,
            routing_key: c,
        },
        Method::BasicGet {
            queue: a,
            no_ack: p,
        },
        Method::BasicGetOk {
            delivery_tag,
            redelivered: p,
            exchange: a,
            routing_key: b,
            message_count: n,
        },
        Method::BasicGetEmpty {},
        Method::BasicAck {
            delivery_tag,
            multiple: p,
        },
        Method::BasicReject {
            delivery_tag,
            requeue: p,
        },
        Method::BasicRecoverAsync { requeue: p },
        Method::BasicRecover { requeue: p },
        Method::BasicRecoverOk {},
        Method::BasicNack {
            delivery_tag,
            multiple: p,
            requeue: q,
        },
        Method::ConfirmSelect { no_wait: p },
        Method::ConfirmSelectOk {},
        Method::TxSelect {},
        Method::TxSelectOk {},
        Method::TxCommit {},
        Method::TxCommitOk {},
        Method::TxRollback {},
        Method::TxRollbackOk {},
    ]
}
