//! What is left of a broker when everything of it is taken away: a program that speaks AMQP and passes frames on.
//!
//! It answers what clients ask, and each message goes from the connection it was read from straight to the consumers of the
//! queues it is for, at once, or to nobody. Nothing is stored, looked after or checked: prefetch limits and acknowledgements
//! mean nothing, a confirm says that a message was read. What a load reaches with it, it reaches on this machine with nearly
//! any server; what a server takes beyond it is the server's own.
//!
//! A thread for each connection blocks on its reads.

mod answers;
mod content;
mod peer;
mod routes;

use std::convert::Infallible;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use self::peer::Peer;
use self::routes::Routes;
use crate::link::Failure;
use crate::wire::amqp::frames::{self, Fields, KIND_METHOD};

/// As much as a server reads at once, or more. Grows for a message that does not fit.
const INBOX_BYTES: usize = 128 * 1024;

/// Listens and passes on until the process is ended. Prints the port first: 0 asks for any that is free.
pub(crate) fn serve(address: SocketAddr) -> Result<Infallible, Failure> {
    let listener = TcpListener::bind(address)?;
    println!("{}", listener.local_addr()?.port());
    let routes = Arc::new(Routes::default());
    loop {
        let (stream, _) = listener.accept()?;
        let routes = Arc::clone(&routes);
        thread::spawn(move || {
            if let Err(failure) = converse(stream, &routes) {
                eprintln!("a connection ended: {failure}");
            }
        });
    }
}

/// Serves one connection to its end.
fn converse(mut stream: TcpStream, routes: &Routes) -> Result<(), Failure> {
    stream.set_nodelay(true)?;
    let mut header = [0; frames::PROTOCOL_HEADER.len()];
    if stream.read_exact(&mut header).is_err() {
        return Ok(()); // somebody looked whether the port answers
    }
    if header != frames::PROTOCOL_HEADER {
        return Err("no AMQP 0-9-1".into());
    }
    let peer = Arc::new(Peer::new(stream.try_clone()?));
    answers::start(&peer);
    peer.flush()?;
    let mut conversation = Conversation::new(&peer, routes);
    let mut inbox = vec![0; INBOX_BYTES];
    let mut filled = 0;
    while !conversation.over {
        let count = stream.read(&mut inbox[filled..])?;
        if count == 0 {
            break;
        }
        filled += count;
        let used = conversation.work_off(&inbox[..filled])?;
        inbox.copy_within(used..filled, 0);
        filled -= used;
        if filled == inbox.len() {
            inbox.resize(2 * filled, 0);
        }
    }
    routes.forget(&peer);
    Ok(())
}

/// What is known of one connection.
struct Conversation<'a> {
    peer: &'a Arc<Peer>,
    routes: &'a Routes,
    /// By channel: how many messages came, and how many of them were confirmed, where confirms were asked for.
    channels: Vec<Option<Confirming>>,
    last_queue: String,
    /// Consumers of the last message, which are often those of the next.
    last: routes::Last,
    over: bool,
}

#[derive(Clone, Copy, Default)]
struct Confirming {
    published: u64,
    confirmed: u64,
}

impl<'a> Conversation<'a> {
    fn new(peer: &'a Arc<Peer>, routes: &'a Routes) -> Conversation<'a> {
        Conversation {
            peer,
            routes,
            channels: Vec::new(),
            last_queue: String::new(),
            last: routes::Last::default(),
            over: false,
        }
    }

    /// Works off what is whole of the received bytes; how many that were.
    fn work_off(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        let mut used = 0;
        let mut reached = Vec::new();
        while let Some((frame, length)) = frames::cut(&bytes[used..])? {
            if frame.kind == KIND_METHOD {
                let mut fields = Fields(frame.payload);
                let id = fields.method_id()?;
                if id == frames::BASIC_PUBLISH {
                    let Some(content) = content::find(&bytes[used + length..])? else {
                        break;
                    };
                    fields.u16()?;
                    let (exchange, key) = (fields.short()?, fields.short()?);
                    for consumer in self.last.of(self.routes, exchange, key) {
                        consumer.deliver(exchange, key, &content);
                        if !reached.iter().any(|one| Arc::ptr_eq(one, &consumer.peer)) {
                            reached.push(Arc::clone(&consumer.peer));
                        }
                    }
                    if let Some(confirming) = self.confirming(frame.channel) {
                        confirming.published += 1;
                    }
                    used += length + content.bytes.len();
                    continue;
                }
                self.answer(frame.channel, id, fields)?;
            }
            // Anything else is a heartbeat.
            used += length;
        }
        for peer in reached {
            peer.flush()?;
        }
        self.confirm();
        self.peer.flush()?;
        Ok(used)
    }

    fn confirming(&mut self, channel: u16) -> Option<&mut Confirming> {
        self.channels.get_mut(usize::from(channel))?.as_mut()
    }

    fn confirm(&mut self) {
        for (channel, confirming) in (0..).zip(&mut self.channels) {
            if let Some(confirming) = confirming
                && confirming.confirmed < confirming.published
            {
                confirming.confirmed = confirming.published;
                self.peer
                    .say(|out| frames::ack(out, channel, confirming.published, true));
            }
        }
    }
}
