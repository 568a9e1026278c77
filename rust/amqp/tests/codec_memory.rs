//! Decoding allocates nothing, whatever the bytes are, and a delivery costs one growth of the buffer. Only what the test's
//! own thread does is counted: the one that waits for it allocates, too.

mod codec_support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use codec_support::{Fields, conversation, every_method, method_payload};
use wherry_amqp::codec::{
    FrameKind, Method, decode_content_header, parse_frame, write_content, write_deliver,
};

struct Counting;

thread_local! {
    // Without a destructor and made at compile time, so that to use it does not allocate.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is handed on to the system's allocator; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's layout is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's block came from `alloc` with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// SplitMix64: the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

/// Reads all frames at the front of `bytes` and all that is in them. Returns how many payloads were accepted.
fn read(mut bytes: &[u8]) -> usize {
    let mut accepted = 0;
    while let Ok(Some((frame, consumed))) = parse_frame(bytes, 131_072) {
        accepted += usize::from(match frame.kind {
            FrameKind::Method => black_box(Method::decode(frame.payload)).is_ok(),
            FrameKind::Header => black_box(decode_content_header(frame.payload)).is_ok(),
            FrameKind::Body | FrameKind::Heartbeat => true,
        });
        bytes = &bytes[consumed..];
    }
    accepted
}

fn allocations_in(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn what_is_allocated() {
    let fields = Fields::default();
    let mut frames: Vec<Vec<u8>> = conversation()[1..]
        .iter()
        .map(|(_, bytes)| bytes.clone())
        .collect();
    for method in every_method(&fields) {
        let mut bytes = Vec::new();
        method.write(1, &mut bytes).unwrap();
        frames.push(bytes);
    }
    let valid = frames.concat();
    let count = frames.len();
    // The counter counts.
    assert_eq!(allocations_in(|| drop(black_box(vec![0_u8; 9]))), 1);
    assert_eq!(allocations_in(|| assert_eq!(read(&valid), count)), 0);

    // Valid frames with octets changed, cut out and put in; the size is often made to fit again, to reach what is behind it.
    let mut random = Random(1);
    let mut buffer = Vec::with_capacity(4096);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..300_000 {
        buffer.clear();
        buffer.extend_from_slice(&frames[random.below(count)]);
        for _ in 0..=random.below(3) {
            let at = random.below(buffer.len());
            match random.below(8) {
                0 => drop(buffer.remove(at)),
                1 => buffer.insert(at, random.below(256) as u8),
                2 => buffer[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
                _ => buffer[at] = random.below(256) as u8,
            }
        }
        if buffer.len() >= 8 && random.below(4) != 0 {
            let size = (buffer.len() - 8) as u32;
            buffer[3..7].copy_from_slice(&size.to_be_bytes());
            *buffer.last_mut().unwrap() = 0xce;
        }
        let allocations = allocations_in(|| match read(&buffer) {
            0 => refused += 1,
            _ => accepted += 1,
        });
        assert_eq!(allocations, 0, "{buffer:?}");
    }
    // Both ends of the road were reached often.
    assert!(
        accepted > 50_000 && refused > 50_000,
        "{accepted} {refused}"
    );

    // Hostile payloads too large for the mutations above.
    let voids = vec![b'V'; 100_000];
    let length = (voids.len() as u32).to_be_bytes();
    let arguments = [b"\x01kA", length.as_slice(), &voids].concat();
    let length = (arguments.len() as u32).to_be_bytes();
    let declare = method_payload(50, 10, &[b"\0\0\x01q\0", &length, &arguments]);
    let huge = [b"\0\x3c\0\0".as_slice(), &u64::MAX.to_be_bytes(), b"\0\0"].concat();
    let allocations = allocations_in(|| {
        assert!(Method::decode(&declare).is_ok());
        assert!(Method::decode(&declare[..declare.len() - 1]).is_err());
        assert_eq!(decode_content_header(&huge).unwrap().body_size, u64::MAX);
    });
    assert_eq!(allocations, 0);

    // One growth of an empty buffer is enough for a delivery of many frames, and none for a buffer that is large enough.
    let body = vec![7; 100_000];
    for body in [&body[..16], &body] {
        let mut out = Vec::new();
        let mut deliver = || {
            write_deliver(
                1,
                "tag",
                1,
                false,
                "exchange",
                "key",
                &[],
                body,
                4096,
                &mut out,
            )
            .unwrap();
        };
        assert_eq!(allocations_in(&mut deliver), 1);
        let mut out = Vec::new();
        let mut content = || write_content(1, 60, &[], body, 4096, &mut out).unwrap();
        assert_eq!(allocations_in(&mut content), 1);
        out.clear();
        assert_eq!(
            allocations_in(|| write_content(1, 60, &[], body, 4096, &mut out).unwrap()),
            0
        );
    }
}
