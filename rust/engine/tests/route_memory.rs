//! What cached routes keep from the allocator: nothing of queues that are deleted. One test, because the counter belongs to the process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};

use wherry_engine::table::Table;
use wherry_engine::{Broker, BrokerOptions, NewMessage, QueueOptions, VirtualHost};

struct Counting;

static LIVE_BYTES: AtomicIsize = AtomicIsize::new(0);

// SAFETY: every call is handed on to the system's allocator; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size() as isize, Ordering::Relaxed);
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

/// Live bytes once the collector has freed what was let go of.
fn live_bytes() -> isize {
    for _ in 0..2000 {
        crossbeam_epoch::pin().flush();
    }
    LIVE_BYTES.load(Ordering::Relaxed)
}

const QUEUES: usize = 5_000;

/// Queues come, each is published to through two exchanges, and they go.
fn come_and_go(host: &Arc<VirtualHost>, count: usize) {
    let names: Vec<String> = (0..count).map(|n| format!("mailbox.{n}")).collect();
    for name in &names {
        host.declare_queue(name, QueueOptions::default())
            .expect("queue");
        host.bind_queue(name, "amq.direct", name, Table::default())
            .expect("bind");
    }
    for exchange in ["", "amq.direct"] {
        let exchange = host.exchange(exchange).expect("exchange");
        for name in &names {
            let published = exchange
                .publish(&NewMessage::new(name, b"hello"))
                .expect("publish");
            assert_eq!(published.routed, 1);
        }
    }
    for name in &names {
        let (messages, _) = host.delete_queue(name, false, false).expect("delete");
        assert_eq!(messages, 2);
    }
}

#[test]
fn deleted_queues_are_not_kept_by_routes_to_them() {
    let broker = Broker::open(BrokerOptions::default()).expect("open");
    let host = broker.virtual_host("/").expect("/");
    // What grows with the first use and stays for the next.
    come_and_go(&host, 10);
    let before = live_bytes();
    for _ in 0..3 {
        come_and_go(&host, QUEUES);
        // Nothing is published or declared any more: what is deleted must go by itself.
        let kept = live_bytes() - before;
        println!("{kept} bytes kept");
        // Tables of pointers that have grown stay; an idle queue would be ten times as much.
        assert!(
            kept < 64 * QUEUES as isize,
            "{kept} bytes of {QUEUES} deleted queues"
        );
    }
}
