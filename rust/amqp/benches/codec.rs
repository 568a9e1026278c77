//! The codec's hot paths: messages a second on one thread. `cargo bench -p wherry-amqp --bench codec [part...]`
//!
//! Parts: parse, deliver, method; all if none is named.
//! `parse` reads a stream of published messages, each a basic.publish frame, a header frame and a body frame of 16 bytes: every frame is
//! found, decoded and checked. The properties are none, a delivery mode (what durable publishers send), or ten fields with four headers.
//! `deliver` writes what a consumer is sent for such a message: in one go, and as method and content, which is what it replaces.
//! `method` decodes and writes acks. Times are this thread's processor time (Linux; elsewhere the wall's), rates the median of 5 rounds.

use std::hint::black_box;
use std::time::Duration;

use wherry_amqp::codec::{
    FrameKind, Method, decode_content_header, parse_frame, write_content, write_deliver,
};
use wherry_engine::properties::Properties;
use wherry_engine::table::{Table, Value};

const MESSAGES: usize = 10_000;
const REPEATS: usize = 100;
const FRAME_MAX: u32 = 131_072;
const BODY: [u8; 16] = [7; 16];

/// The processor time this thread has used: other programs on the machine disturb it less than the wall's time.
fn now() -> Duration {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: `timespec` is plain numbers, and the call writes only to it.
        let time = unsafe {
            let mut time = std::mem::zeroed();
            libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time);
            time
        };
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
    #[cfg(not(target_os = "linux"))]
    {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        START.get_or_init(std::time::Instant::now).elapsed()
    }
}

/// Runs `pass`, which handles [`MESSAGES`], five rounds of [`REPEATS`] times, and prints the median rate.
fn rate(name: &str, mut pass: impl FnMut()) {
    pass();
    let mut rounds: Vec<Duration> = (0..5)
        .map(|_| {
            let start = now();
            (0..REPEATS).for_each(|_| pass());
            now() - start
        })
        .collect();
    rounds.sort_unstable();
    let seconds = rounds[2].as_secs_f64();
    let messages = (MESSAGES * REPEATS) as f64;
    println!(
        "{name:<44} {:>7.2} M/s {:>7.1} ns",
        messages / seconds / 1e6,
        seconds / messages * 1e9
    );
}

/// Name and bytes of the properties that are measured.
fn properties() -> [(&'static str, Vec<u8>); 3] {
    let many = Properties {
        content_type: Some(b"application/json".to_vec()),
        content_encoding: Some(b"utf-8".to_vec()),
        headers: Some(Table::from_iter([
            ("id", Value::from("3d0c6f0a-6b5f-4f2c-9a53-4a1f0f6f2c11")),
            ("task", Value::from("tasks.add")),
            ("retries", Value::I32(0)),
            ("eta", Value::Void),
        ])),
        delivery_mode: Some(2),
        priority: Some(0),
        correlation_id: Some(b"3d0c6f0a-6b5f-4f2c-9a53-4a1f0f6f2c11".to_vec()),
        reply_to: Some(b"f4f0ac83-8dc6-3d5c-8f17-4a8b70ccd7b9".to_vec()),
        message_id: Some(b"1".to_vec()),
        timestamp: Some(1_700_000_000),
        app_id: Some(b"bench".to_vec()),
        ..Properties::default()
    };
    [
        ("no properties", Vec::new()),
        ("delivery mode", vec![0x10, 0x00, 2]),
        ("ten properties", many.encode().expect("within the limits")),
    ]
}

fn parse() {
    for (name, properties) in properties() {
        let mut stream = Vec::new();
        let publish = Method::BasicPublish {
            exchange: "orders",
            routing_key: "orders.eu.new",
            mandatory: false,
            immediate: false,
        };
        for _ in 0..MESSAGES {
            publish.write(1, &mut stream).expect("short texts");
            write_content(1, 60, &properties, &BODY, FRAME_MAX, &mut stream).expect("small");
        }
        rate(&format!("parse publish, {name}"), || {
            let mut rest = black_box(stream.as_slice());
            let mut messages = 0;
            while let Ok(Some((frame, consumed))) = parse_frame(rest, FRAME_MAX) {
                match frame.kind {
                    FrameKind::Method => {
                        black_box(Method::decode(frame.payload).expect("a method"));
                    }
                    FrameKind::Header => {
                        black_box(decode_content_header(frame.payload).expect("a header"));
                    }
                    FrameKind::Body | FrameKind::Heartbeat => messages += 1,
                }
                rest = &rest[consumed..];
            }
            assert_eq!(messages, MESSAGES);
        });
    }
}

fn deliver() {
    let mut out = Vec::new();
    for (name, properties) in properties() {
        rate(&format!("write deliver, {name}"), || {
            out.clear();
            for tag in 0..MESSAGES as u64 {
                write_deliver(
                    1,
                    black_box("ctag1.0fcc63adf6024"),
                    tag,
                    false,
                    black_box("orders"),
                    black_box("orders.eu.new"),
                    black_box(&properties),
                    black_box(&BODY),
                    FRAME_MAX,
                    &mut out,
                )
                .expect("short texts");
            }
            black_box(&out);
        });
    }
    rate("the same by method and content", || {
        out.clear();
        for delivery_tag in 0..MESSAGES as u64 {
            let deliver = Method::BasicDeliver {
                consumer_tag: black_box("ctag1.0fcc63adf6024"),
                delivery_tag,
                redelivered: false,
                exchange: black_box("orders"),
                routing_key: black_box("orders.eu.new"),
            };
            deliver.write(1, &mut out).expect("short texts");
            write_content(1, 60, black_box(&[]), black_box(&BODY), FRAME_MAX, &mut out)
                .expect("small");
        }
        black_box(&out);
    });
}

fn method() {
    let mut out = Vec::new();
    rate("write ack", || {
        out.clear();
        for delivery_tag in 0..MESSAGES as u64 {
            let ack = Method::BasicAck {
                delivery_tag,
                multiple: false,
            };
            ack.write(1, &mut out).expect("no texts");
        }
        black_box(&out);
    });
    rate("parse ack", || {
        let mut rest = black_box(out.as_slice());
        while let Ok(Some((frame, consumed))) = parse_frame(rest, FRAME_MAX) {
            black_box(Method::decode(frame.payload).expect("a method"));
            rest = &rest[consumed..];
        }
    });
}

fn main() {
    // `cargo bench` adds arguments of its own, which begin with a dash.
    let parts: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|name| name == part);
    if wanted("parse") {
        parse();
    }
    if wanted("deliver") {
        deliver();
    }
    if wanted("method") {
        method();
    }
}
