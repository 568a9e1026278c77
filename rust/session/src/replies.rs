//! Direct reply-to: answers that go to a consumer without a queue.
//!
//! A client consumes [`REPLY_TO`] and so opens an inbox. Its name holds 128 random bits; who knows it may answer, which
//! is the whole access control, as in RabbitMQ. Nothing is stored: a reply is delivered at most once, and one that finds
//! the inbox full is dropped and counted.
//!
//! Names are looked up under a shared lock, replies change hands under the inbox's own. Any thread may send.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use wherry_engine::{Message, Notify};

use crate::failure::Failure;
use crate::random_name::{RANDOM_LETTERS, random_letters};

/// The name that clients consume, and the beginning of the name that they get.
pub const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// What a waiting reply takes beside its content, so that empty ones count.
const REPLY_OVERHEAD_BYTES: u64 = 64;

/// Places for replies that an empty inbox keeps.
const KEPT_MAX: usize = 64;

type Secret = [u8; RANDOM_LETTERS];

/// The secret in a routing key, if it is one of a reply.
fn secret(name: &str) -> Option<Secret> {
    name.strip_prefix(REPLY_TO)?
        .strip_prefix('.')?
        .as_bytes()
        .try_into()
        .ok()
}

#[derive(Default)]
struct Waiting {
    replies: VecDeque<Message>,
    bytes: u64,
}

struct Inbox {
    waiting: Mutex<Waiting>,
    bytes_max: u64,
    dropped: AtomicU64,
    notify: Arc<dyn Notify>,
    token: u64,
}

#[derive(Default)]
struct Registry {
    inboxes: RwLock<HashMap<Secret, Arc<Inbox>, RandomState>>,
    dropped: AtomicU64,
}

/// All inboxes of a server.
#[derive(Default)]
pub struct Replies {
    registry: Arc<Registry>,
}

fn size(message: &Message) -> u64 {
    let content = message.body().len()
        + message.properties_bytes().len()
        + message.routing_key().len()
        + message.exchange().len();
    content as u64 + REPLY_OVERHEAD_BYTES
}

impl Replies {
    /// Opens an inbox that takes up to `bytes_max` bytes. `notify` is called with `token` when a reply comes into an
    /// empty inbox, on the sender's thread.
    ///
    /// # Errors
    /// [`FailureKind::InternalError`](crate::FailureKind::InternalError) when the system has no random numbers.
    pub fn open(
        &self,
        notify: Arc<dyn Notify>,
        token: u64,
        bytes_max: u64,
    ) -> Result<ReplyInbox, Failure> {
        let inbox = Arc::new(Inbox {
            waiting: Mutex::default(),
            bytes_max,
            dropped: AtomicU64::new(0),
            notify,
            token,
        });
        let secret = random_letters()?;
        self.registry.inboxes.write().insert(secret, inbox.clone());
        let text: String = secret.iter().map(|&letter| char::from(letter)).collect();
        Ok(ReplyInbox {
            registry: self.registry.clone(),
            inbox,
            secret,
            name: format!("{REPLY_TO}.{text}"),
        })
    }

    fn find(&self, name: &str) -> Option<Arc<Inbox>> {
        self.registry.inboxes.read().get(&secret(name)?).cloned()
    }

    /// Sends a reply to the inbox that the routing key names. False: there is none, and the message is unroutable. True
    /// also when the inbox is full and the reply is dropped, which its promise allows.
    pub fn send(&self, routing_key: &str, message: Message) -> bool {
        let Some(inbox) = self.find(routing_key) else {
            return false;
        };
        let bytes = size(&message);
        let mut waiting = inbox.waiting.lock();
        if waiting.bytes + bytes > inbox.bytes_max {
            drop(waiting);
            inbox.dropped.fetch_add(1, Ordering::Relaxed);
            self.registry.dropped.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        waiting.bytes += bytes;
        waiting.replies.push_back(message);
        let first = waiting.replies.len() == 1;
        drop(waiting);
        if first {
            inbox.notify.notify(inbox.token);
        }
        true
    }

    /// Whether a name is that of an open inbox.
    pub fn exists(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Whether a name is [`REPLY_TO`] or begins like a reply's: no queue can be declared or bound under it.
    pub fn is_reserved(name: &str) -> bool {
        name.strip_prefix(REPLY_TO)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// Open inboxes.
    pub fn open_count(&self) -> usize {
        self.registry.inboxes.read().len()
    }

    /// Replies that found their inbox full.
    pub fn dropped(&self) -> u64 {
        self.registry.dropped.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Replies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replies")
            .field("open", &self.open_count())
            .field("dropped", &self.dropped())
            .finish()
    }
}

/// An open inbox. Dropping it closes it; what waits in it is gone then.
pub struct ReplyInbox {
    registry: Arc<Registry>,
    inbox: Arc<Inbox>,
    secret: Secret,
    name: String,
}

impl ReplyInbox {
    /// What to write into the `reply-to` of requests.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes up to `max` replies, oldest first, and returns how many it were.
    pub fn take(&self, max: usize, out: &mut Vec<Message>) -> usize {
        let mut waiting = self.inbox.waiting.lock();
        let Waiting { replies, bytes } = &mut *waiting;
        let count = max.min(replies.len());
        out.extend(
            replies
                .drain(..count)
                .inspect(|message| *bytes -= size(message)),
        );
        if replies.is_empty() {
            replies.shrink_to(KEPT_MAX);
        }
        count
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.inbox.waiting.lock().replies.is_empty()
    }

    /// Replies that found it full.
    pub fn dropped(&self) -> u64 {
        self.inbox.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for ReplyInbox {
    fn drop(&mut self) {
        self.registry.inboxes.write().remove(&self.secret);
    }
}

impl std::fmt::Debug for ReplyInbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The name is a secret: who has it may answer.
        f.debug_struct("ReplyInbox")
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}
