//! What an idle queue takes from the allocator, also after it was used. One test, because the counter belongs to the process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};

use wherry_engine::{
    Broker, BrokerOptions, ConsumerOptions, NewMessage, Outcome, Queue, QueueOptions,
};

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

/// Fills the tables of queues to the same degree each time.
const QUEUES: usize = 10_000;
/// The queue itself, its name, and its places in three tables. What the allocator adds for itself, some 64 bytes, comes on
/// top: below the 1,024 bytes that a mailbox may cost there is room for it.
const BYTES_MAX: usize = 800;

fn each(before: isize) -> usize {
    usize::try_from(LIVE_BYTES.load(Ordering::Relaxed) - before).expect("more than before") / QUEUES
}

#[test]
fn an_idle_queue_takes_less_than_a_kilobyte_also_when_it_was_used() {
    let broker = Broker::open(BrokerOptions::default()).expect("open");
    let host = broker.virtual_host("/").expect("/");
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    let queues: Vec<Arc<Queue>> = (0..QUEUES)
        .map(|n| {
            let name = format!("mailbox.{n}");
            host.declare_queue(&name, QueueOptions::default())
                .expect("queue")
                .0
        })
        .collect();
    let declared = each(before);
    assert!(declared < BYTES_MAX, "{declared} bytes");

    // Two, in turn, of which the second waits.
    let in_turn = ConsumerOptions {
        in_turn: true,
        ..ConsumerOptions::default()
    };
    for queue in &queues {
        let consumers = [(), ()].map(|()| queue.consume(in_turn.clone(), None).expect("consumer"));
        assert!(!consumers[1].arm());
    }
    let consumed = each(before);
    assert!(consumed < BYTES_MAX, "{consumed} bytes after consumers");

    let exchange = host.exchange("").expect("exchange");
    let mut taken = Vec::new();
    for queue in &queues {
        exchange
            .publish(&NewMessage::new(queue.name(), b"hello"))
            .expect("publish");
        let consumers = [(), ()].map(|()| queue.consume(in_turn.clone(), None).expect("consumer"));
        assert_eq!(consumers[0].take(1, &mut taken), 1);
        consumers[0].settle(0, true, Outcome::Ack).expect("ack");
        taken.clear();
    }
    let used = each(before);
    // A route to it is cached, too.
    assert!(used < BYTES_MAX + 100, "{used} bytes after a message");
    println!("{declared} bytes declared, {consumed} after consumers, {used} after a message");
}
