//! The other end of a connection, to whom any thread may have something to say.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard};

use super::content::Content;
use crate::wire::amqp::frames;

pub(super) struct Peer {
    out: Mutex<Out>,
}

struct Out {
    stream: TcpStream,
    /// Whole frames that are not written yet.
    bytes: Vec<u8>,
    /// The last delivery tag, by channel.
    tags: Vec<u64>,
}

impl Peer {
    pub(super) fn new(stream: TcpStream) -> Peer {
        Peer {
            out: Mutex::new(Out {
                stream,
                bytes: Vec::new(),
                tags: Vec::new(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Out> {
        self.out.lock().expect("nobody panics with it")
    }

    /// Appends frames to what is to be written.
    pub(super) fn say(&self, frames: impl FnOnce(&mut Vec<u8>)) {
        frames(&mut self.lock().bytes);
    }

    /// Writes what there is to say. Blocks while the peer does not read, and so does whoever else has something for it.
    pub(super) fn flush(&self) -> io::Result<()> {
        let out = &mut *self.lock();
        let written = out.stream.write_all(&out.bytes);
        out.bytes.clear();
        written
    }

    /// A delivery. Its number is the next one of its channel, in the order in which they are written.
    pub(super) fn deliver(
        &self,
        channel: u16,
        tag: &str,
        exchange: &[u8],
        key: &[u8],
        content: &Content<'_>,
    ) {
        let out = &mut *self.lock();
        let index = usize::from(channel);
        if out.tags.len() <= index {
            out.tags.resize(index + 1, 0);
        }
        out.tags[index] += 1;
        let number = out.tags[index];
        frames::method(&mut out.bytes, channel, frames::BASIC_DELIVER, |bytes| {
            frames::short(bytes, tag);
            bytes.extend_from_slice(&number.to_be_bytes());
            bytes.push(0); // not redelivered
            for name in [exchange, key] {
                bytes.push(name.len() as u8); // as it was read: a short string
                bytes.extend_from_slice(name);
            }
        });
        content.append(&mut out.bytes, channel);
    }
}
