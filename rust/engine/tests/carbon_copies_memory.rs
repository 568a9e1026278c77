//! What one message with thousands of routing keys takes while it is routed: not a place for each key and queue. One
//! test, because the counter belongs to the process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};

use wherry_engine::properties::Properties;
use wherry_engine::table::{Table, Value};
use wherry_engine::{
    Broker, BrokerOptions, ExchangeKind, ExchangeOptions, NewMessage, QueueOptions,
};

struct Counting;

static LIVE_BYTES: AtomicIsize = AtomicIsize::new(0);
static PEAK_BYTES: AtomicIsize = AtomicIsize::new(0);

// SAFETY: every call is handed on to the system's allocator; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE_BYTES.fetch_add(layout.size() as isize, Ordering::Relaxed);
        PEAK_BYTES.fetch_max(live + layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's layout is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's block came from `alloc` with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Keys, queues, and exchanges that all keys lead to: four million pairs of each kind.
const COUNT: usize = 2000;

/// Without sorting doubles out it is 64 MB and more.
const PEAK_BYTES_MAX: isize = 16 << 20;

#[test]
fn thousands_of_keys_to_the_same_thousands_of_queues() {
    let broker = Broker::open(BrokerOptions::default()).expect("open");
    let host = broker.virtual_host("/").expect("host");
    let declare = |name: &str, kind| {
        let options = ExchangeOptions {
            kind,
            ..Default::default()
        };
        host.declare_exchange(name, options).expect("exchange");
    };
    declare("topic", ExchangeKind::Topic);
    declare("fanout", ExchangeKind::Fanout);
    host.bind_exchange("topic", "fanout", "", Table::default())
        .expect("bind");
    for n in 0..COUNT {
        let (queue, next) = (format!("queue{n}"), format!("next{n}"));
        host.declare_queue(&queue, QueueOptions::default())
            .expect("queue");
        host.bind_queue(&queue, "topic", "#", Table::default())
            .expect("bind");
        declare(&next, ExchangeKind::Fanout);
        host.bind_exchange(&next, "topic", "#", Table::default())
            .expect("bind");
        host.bind_queue(&queue, &next, "", Table::default())
            .expect("bind");
    }
    let keys = (0..COUNT).map(|n| n.to_string().as_str().into()).collect();
    let mut headers = Table::default();
    headers.insert("CC", Value::Array(keys));
    let properties = Properties {
        headers: Some(headers),
        ..Default::default()
    };
    let properties = properties.encode().expect("properties");
    for exchange in ["topic", "fanout"] {
        let exchange = host.exchange(exchange).expect("exchange");
        let before = LIVE_BYTES.load(Ordering::Relaxed);
        PEAK_BYTES.store(before, Ordering::Relaxed);
        let message = NewMessage {
            properties: &properties,
            ..NewMessage::new("first", b"")
        };
        let published = exchange.publish(&message).expect("publish");
        assert_eq!(published.routed as usize, COUNT);
        let taken = PEAK_BYTES.load(Ordering::Relaxed) - before;
        assert!(taken < PEAK_BYTES_MAX, "{taken} bytes");
    }
}
