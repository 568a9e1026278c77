//! Publishing: the one way by which messages enter queues, and the one place where a change becomes a journal record.
//!
//! Order of steps, and why:
//!
//! 1. everything that can be refused is checked, so that an error has changed nothing;
//! 2. room in the journal is reserved, which may be refused, but never waits;
//! 3. positions are claimed in every queue, because the record carries them;
//! 4. the record is written; 5. the slots are filled: only now can a consumer see the message, so that its
//!    acknowledgement always stands behind it in the journal.
//!
//! Between 3 and 5 a consumer that reaches a claimed slot waits for it; nothing in between blocks.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use wherry_journal::Class;

use crate::core::{Core, Event};
use crate::entries::{self, Place, RECORD_COMMIT, Run, Target};
use crate::error::Error;
use crate::exchange::Exchange;
use crate::message::{Facts, Message, Parts, Stored};
use crate::options::{
    DURATION_MAX, MESSAGE_BYTES_MAX, NAME_BYTES_MAX, Overflow, PROPERTIES_BYTES_MAX,
};
use crate::properties::PropertiesView;
use crate::queue::Queue;
use crate::queue::ready::{Placed, ReadyClaim};
use crate::route::{carbon_copies, route_all};
use crate::storage::Ticket;
use crate::table::ValueView;

/// When a message becomes deliverable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delay {
    /// At once, unless an `x-delay` header (milliseconds) says otherwise.
    #[default]
    None,
    /// After this time.
    For(Duration),
    /// At this time, in nanoseconds since the UNIX epoch; a past time means at once.
    At(u64),
}

/// A message as handed in.
#[derive(Clone, Copy, Debug)]
pub struct NewMessage<'a> {
    /// At most 255 bytes.
    pub routing_key: &'a str,
    /// Encoded basic properties (`properties.rs`); empty for none.
    pub properties: &'a [u8],
    /// Anything.
    pub body: &'a [u8],
    /// Survives a restart in durable queues. A delivery mode in the properties counts instead, if there is one.
    pub persistent: bool,
    /// An error when no queue takes it.
    pub mandatory: bool,
    /// When it becomes deliverable.
    pub delay: Delay,
}

impl<'a> NewMessage<'a> {
    /// A persistent message without properties.
    pub fn new(routing_key: &'a str, body: &'a [u8]) -> Self {
        NewMessage {
            routing_key,
            properties: &[],
            body,
            persistent: true,
            mandatory: false,
            delay: Delay::None,
        }
    }
}

/// What became of a publish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// When it is on stable storage.
    pub ticket: Ticket,
    /// Queues reached, summed over a batch.
    pub routed: u32,
    /// Messages published; less than given only by `publish_batch`.
    pub accepted: usize,
}

/// A checked message on its way into queues.
#[derive(Clone, Copy)]
pub(crate) struct Draft<'a> {
    pub(crate) parts: Parts<'a>,
    pub(crate) facts: Facts,
    pub(crate) priority: u8,
}

fn parse_expiration(text: &[u8]) -> Result<u64, Error> {
    let invalid = || {
        Error::InvalidArgument(format!(
            "invalid expiration '{}': give whole milliseconds as decimal text, from 0 to ten years",
            String::from_utf8_lossy(text)
        ))
    };
    let digits = std::str::from_utf8(text).map_err(|_| invalid())?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid());
    }
    let millis: u64 = digits.parse().map_err(|_| invalid())?;
    if u128::from(millis) > DURATION_MAX.as_millis() {
        return Err(invalid());
    }
    Ok(millis * 1_000_000)
}

/// `x-delay` as the delayed-message plugin reads it: a number of milliseconds.
fn header_delay(headers: crate::table::TableView<'_>) -> Result<u64, Error> {
    match headers.get("x-delay") {
        None => Ok(0),
        Some(value) => {
            let millis = value.as_integer().or_else(|| match value {
                ValueView::Str(text) => std::str::from_utf8(text).ok()?.parse().ok(),
                _ => None,
            });
            match millis {
                Some(n) if n <= 0 => Ok(0), // the plugin delivers at once
                Some(n) if u128::from(n.unsigned_abs()) <= DURATION_MAX.as_millis() => {
                    Ok(n.unsigned_abs() * 1_000_000)
                }
                _ => Err(Error::InvalidArgument(
                    "invalid x-delay: give milliseconds, up to ten years".into(),
                )),
            }
        }
    }
}

impl<'a> Draft<'a> {
    /// Checks a message and works out what queues need to know of it.
    pub(crate) fn new(
        exchange: &'a Exchange,
        message: &NewMessage<'a>,
        now: u64,
    ) -> Result<Draft<'a>, Error> {
        if message.routing_key.len() > NAME_BYTES_MAX {
            return Err(Error::InvalidArgument(format!(
                "routing key of {} bytes: the limit is {NAME_BYTES_MAX}",
                message.routing_key.len()
            )));
        }
        let bytes = message.body.len() + message.properties.len();
        if bytes > MESSAGE_BYTES_MAX {
            return Err(Error::MessageTooLarge {
                bytes: bytes as u64,
                bytes_max: MESSAGE_BYTES_MAX as u64,
            });
        }
        let mut facts = Facts {
            published_ns: now,
            expires_ns: 0,
            due_ns: 0,
            persistent: message.persistent,
        };
        let mut priority = 0;
        let mut delay_ns = 0;
        if !message.properties.is_empty() {
            if message.properties.len() > PROPERTIES_BYTES_MAX {
                return Err(Error::InvalidArgument(format!(
                    "properties and headers of {} bytes: the limit is {PROPERTIES_BYTES_MAX}; put large data into the body",
                    message.properties.len()
                )));
            }
            let view = PropertiesView::new(message.properties);
            view.validate()
                .map_err(|e| Error::InvalidArgument(e.to_string()))?;
            priority = view.priority().unwrap_or(0);
            if let Some(mode) = view.delivery_mode() {
                facts.persistent = mode == 2;
            }
            if let Some(text) = view.expiration() {
                // Zero is kept apart from "never": such a message is due to die as soon as it was published.
                facts.expires_ns = (now + parse_expiration(text)?).max(1);
            }
            if let Some(headers) = view.headers() {
                delay_ns = header_delay(headers)?;
            }
        }
        match message.delay {
            Delay::None => {}
            Delay::For(time) if time > DURATION_MAX => {
                return Err(Error::InvalidArgument(
                    "delay: the limit is ten years".into(),
                ));
            }
            Delay::For(time) => delay_ns = time.as_nanos() as u64,
            Delay::At(ns) => {
                delay_ns = ns.saturating_sub(now);
                if delay_ns > DURATION_MAX.as_nanos() as u64 {
                    return Err(Error::InvalidArgument(
                        "delivery time: the limit is ten years ahead".into(),
                    ));
                }
            }
        }
        if delay_ns > 0 {
            facts.due_ns = now + delay_ns;
            if facts.expires_ns != 0 {
                facts.expires_ns += delay_ns; // its time to live begins when it becomes deliverable
            }
        }
        let parts = Parts {
            exchange: exchange.name(),
            routing_key: message.routing_key,
            properties: message.properties,
            body: message.body,
        };
        Ok(Draft {
            parts,
            facts,
            priority,
        })
    }

    fn headers(&self) -> Option<crate::table::TableView<'a>> {
        if self.parts.properties.is_empty() {
            return None;
        }
        PropertiesView::new(self.parts.properties).headers()
    }
}

/// Messages for the same queues, in order. All of them are delayed, or none is.
pub(crate) struct PublishRun<'a> {
    pub(crate) queues: &'a [Arc<Queue>],
    pub(crate) drafts: &'a [Draft<'a>],
}

struct InQueue<'a>(&'a Queue, &'a Draft<'a>);

impl Placed for InQueue<'_> {
    fn level(&self) -> u8 {
        self.0.level_of(self.1.priority)
    }

    fn group(&self) -> Option<u64> {
        self.0.group_of(&self.1.parts)
    }
}

enum Claimed<'a> {
    Ready(ReadyClaim<'a>),
    /// First id in the queue's schedule.
    Scheduled(u64),
}

impl Claimed<'_> {
    fn place(&self, queue: &Queue, index: usize) -> Place {
        match self {
            Claimed::Ready(claim) => {
                let (level, position) = claim.place(index);
                Place {
                    queue: queue.id(),
                    level,
                    position,
                }
            }
            Claimed::Scheduled(first) => Place {
                queue: queue.id(),
                level: 0,
                position: first + index as u64,
            },
        }
    }
}

/// Puts messages into queues, settles others, and takes delayed ones out of their schedules (`unscheduled`), as one
/// journal record.
pub(crate) fn commit(
    core: &Core,
    runs: &[PublishRun<'_>],
    settles: &[Run],
    unscheduled: &[Place],
    class: Class,
) -> Result<Ticket, Error> {
    let mut bytes = 0;
    if core.storage().is_some() {
        for run in runs {
            let durable = run.queues.iter().filter(|q| q.is_durable()).count();
            if durable > 0 {
                for draft in run.drafts.iter().filter(|d| d.facts.persistent) {
                    bytes += entries::message_bytes(&draft.parts, &draft.facts, durable, false);
                }
            }
        }
        if !settles.is_empty() {
            bytes += entries::settle_bytes(settles.len());
        }
        bytes += unscheduled.len() * entries::PLACE_BYTES;
    }
    let sizes = [bytes];
    let storage = core.storage().filter(|_| bytes > 0);
    // Until the slots are filled: compaction would take a message for dead that is in the journal and in no queue yet.
    let publishing = storage.map(|s| s.in_flight.enter());
    let mut reservation = match storage {
        Some(storage) => Some(storage.reserve(&sizes, class)?),
        None => None,
    };
    let (base, mut out) = match &mut reservation {
        Some(reservation) => reservation.next(RECORD_COMMIT),
        None => (0, &mut [][..]),
    };
    let mut offset = 0u64;

    let mut done: SmallVec<[(&PublishRun<'_>, Written<'_>); 1]> = SmallVec::new();
    for run in runs {
        if run.queues.is_empty() {
            continue;
        }
        let durable = if base == 0 {
            0
        } else {
            run.queues.iter().filter(|q| q.is_durable()).count()
        };
        let scheduled = run.drafts.first().is_some_and(|d| d.facts.due_ns != 0);
        let mut addresses: SmallVec<[u64; 1]> = SmallVec::new();
        let mut claims: SmallVec<[Claimed<'_>; 1]> = SmallVec::new();
        for queue in run.queues {
            queue.announce(run.drafts, scheduled);
            claims.push(if scheduled {
                Claimed::Scheduled(queue.new_schedule_ids(run.drafts.len() as u64))
            } else {
                Claimed::Ready(
                    queue
                        .ready
                        .claim(run.drafts.iter().map(|d| InQueue(queue, d))),
                )
            });
        }
        for (index, draft) in run.drafts.iter().enumerate() {
            if durable == 0 || !draft.facts.persistent {
                addresses.push(0);
                continue;
            }
            addresses.push(base + offset);
            let size = entries::message_bytes(&draft.parts, &draft.facts, durable, false);
            let (mine, rest) = std::mem::take(&mut out).split_at_mut(size);
            out = rest;
            offset += size as u64;
            let targets: SmallVec<[Target; 2]> = run
                .queues
                .iter()
                .zip(&claims)
                .filter(|(queue, _)| queue.is_durable())
                .map(|(queue, claim)| Target {
                    place: claim.place(queue, index),
                    note: 0,
                })
                .collect();
            entries::write_message(mine, &draft.parts, &draft.facts, targets.into_iter(), false);
        }
        done.push((
            run,
            Written {
                durable,
                addresses,
                claims,
            },
        ));
    }
    if base != 0 {
        if !settles.is_empty() {
            let (mine, rest) =
                std::mem::take(&mut out).split_at_mut(entries::settle_bytes(settles.len()));
            out = rest;
            entries::write_settle(mine, settles);
        }
        for place in unscheduled {
            let (mine, rest) = std::mem::take(&mut out).split_at_mut(entries::PLACE_BYTES);
            out = rest;
            entries::write_place(mine, entries::CANCEL, *place);
        }
    }
    debug_assert!(out.is_empty());
    let ticket = reservation.map_or(Ticket::NONE, |r| Ticket(r.finish()));
    crate::core::interruptible();

    // What follows from a message's arrival may take messages, also from queues of this very commit, and whoever takes
    // waits for claims that are not filled: so every claim is filled before anything follows.
    let mut effects: SmallVec<[Effects<'_>; 1]> = SmallVec::new();
    for (run, written) in done {
        written.fill(core, run, &mut effects);
    }
    drop(publishing);
    for effect in effects {
        effect.happen();
    }
    Ok(ticket)
}

/// Puts messages into one queue that does not journal them: nothing has to be known before they are visible, so the
/// steps between fall away.
fn push_transient(queue: &Arc<Queue>, drafts: &[Draft<'_>]) {
    queue.announce(drafts, false);
    for draft in drafts {
        let stored = Stored::from_message(Message::new(&draft.parts, draft.facts, 0));
        let (level, position) = queue.ready.push(stored, &InQueue(queue, draft));
        let deadline_ns = queue.deadline(&draft.facts);
        if deadline_ns != 0 {
            queue.watch_deadline(
                deadline_ns,
                Event::Expire {
                    queue: queue.id(),
                    level,
                    position,
                },
            );
        }
    }
    queue.after_publish(drafts.len());
}

/// Whether `push_transient` will do for these messages.
fn is_transient(queue: &Queue, drafts: &[Draft<'_>]) -> bool {
    let journaled = queue.is_durable() && drafts.iter().any(|d| d.facts.persistent);
    !journaled && drafts.iter().all(|d| d.facts.due_ns == 0)
}

/// Publishes admitted messages to their queues.
fn put(core: &Core, queues: &[Arc<Queue>], drafts: &[Draft<'_>]) -> Result<Ticket, Error> {
    if let [queue] = queues
        && is_transient(queue, drafts)
    {
        push_transient(queue, drafts);
        return Ok(Ticket::NONE);
    }
    commit(
        core,
        &[PublishRun { queues, drafts }],
        &[],
        &[],
        Class::Publish,
    )
}

/// One run whose record is written and whose slots are not yet filled.
struct Written<'a> {
    durable: usize,
    /// Of each message's entry; 0 when it has none.
    addresses: SmallVec<[u64; 1]>,
    /// Of each queue.
    claims: SmallVec<[Claimed<'a>; 1]>,
}

/// What follows from messages having become ready in a queue.
struct Effects<'a> {
    queue: &'a Arc<Queue>,
    messages: usize,
    deadlines: SmallVec<[(u64, Event); 1]>,
}

impl Effects<'_> {
    fn happen(self) {
        for (deadline_ns, event) in self.deadlines {
            self.queue.watch_deadline(deadline_ns, event);
        }
        self.queue.after_publish(self.messages);
    }
}

impl Written<'_> {
    fn fill<'a>(self, core: &Core, run: &PublishRun<'a>, effects: &mut SmallVec<[Effects<'a>; 1]>) {
        if self.durable > 0
            && let Some(storage) = core.storage()
        {
            for (at, draft) in self.addresses.iter().zip(run.drafts) {
                if *at != 0 {
                    let bytes =
                        entries::message_bytes(&draft.parts, &draft.facts, self.durable, false);
                    let journal = storage.journal();
                    journal.retain_shares(*at, self.durable as u32, bytes as u64);
                }
            }
        }
        // A backlogged queue keeps addresses; everybody else shares one message on the heap.
        let paged: SmallVec<[bool; 1]> = run
            .queues
            .iter()
            .map(|q| q.is_durable() && q.is_paged())
            .collect();
        let all_paged = paged.iter().all(|p| *p);
        let shared: SmallVec<[Option<Message>; 1]> = if run.queues.len() > 1 {
            run.drafts
                .iter()
                .zip(&self.addresses)
                .map(|(draft, at)| {
                    (!(all_paged && *at != 0)).then(|| Message::new(&draft.parts, draft.facts, *at))
                })
                .collect()
        } else {
            SmallVec::new()
        };
        for ((queue, claim), paged) in run.queues.iter().zip(self.claims).zip(&paged) {
            let stored =
                run.drafts
                    .iter()
                    .zip(&self.addresses)
                    .enumerate()
                    .map(|(index, (draft, at))| {
                        if *paged && *at != 0 {
                            return Stored::in_journal(*at);
                        }
                        // A durable queue's slot names the entry; a transient one's must not, since the entry does not
                        // name the queue and may go while the queue still has the message.
                        let at = if queue.is_durable() { *at } else { 0 };
                        match shared.get(index) {
                            Some(Some(message)) if at != 0 || self.durable == 0 => {
                                Stored::heap(message)
                            }
                            _ => Stored::from_message(Message::new(&draft.parts, draft.facts, at)),
                        }
                    });
            match claim {
                Claimed::Ready(claim) => {
                    let mut deadlines: SmallVec<[(u64, Event); 1]> = SmallVec::new();
                    for (index, draft) in run.drafts.iter().enumerate() {
                        let deadline_ns = queue.deadline(&draft.facts);
                        if deadline_ns != 0 {
                            let (level, position) = claim.place(index);
                            deadlines.push((
                                deadline_ns,
                                Event::Expire {
                                    queue: queue.id(),
                                    level,
                                    position,
                                },
                            ));
                        }
                    }
                    claim.fill(stored);
                    effects.push(Effects {
                        queue,
                        messages: run.drafts.len(),
                        deadlines,
                    });
                }
                Claimed::Scheduled(first) => {
                    for (index, (draft, stored)) in run.drafts.iter().zip(stored).enumerate() {
                        queue.schedule_delayed(first + index as u64, draft.facts.due_ns, stored);
                    }
                }
            }
        }
    }
}

/// The first queue that would refuse so many more messages.
pub(crate) fn refusing(queues: &[Arc<Queue>], messages: u64) -> Option<&Arc<Queue>> {
    queues
        .iter()
        .find(|queue| queue.options().overflow != Overflow::DropHead && queue.is_full(messages - 1))
}

pub(crate) fn rejected(queue: &Queue) -> Error {
    Error::PublishRejected {
        queue: queue.name().to_string(),
    }
}

/// Refuses before anything changes, if any queue would refuse.
fn admit(queues: &[Arc<Queue>], drafts: &[Draft<'_>]) -> Result<(), Error> {
    let Some(queue) = refusing(queues, drafts.len() as u64) else {
        return Ok(());
    };
    queue.count_rejected(drafts.len() as u64);
    if queue.options().overflow == Overflow::RejectPublishDeadLetter {
        for draft in drafts {
            queue.dead_letter_refused(draft);
        }
    }
    Err(rejected(queue))
}

/// Routing keys of CC and BCC, if there are any.
fn extra_keys<'a>(draft: &Draft<'a>) -> Option<SmallVec<[&'a str; 4]>> {
    let headers = draft.headers()?;
    let mut keys: SmallVec<[&'a str; 4]> = SmallVec::new();
    keys.extend(carbon_copies(headers, "CC"));
    keys.extend(carbon_copies(headers, "BCC"));
    if keys.is_empty() {
        return None;
    }
    keys.insert(0, draft.parts.routing_key);
    Some(keys)
}

/// The properties without the BCC header, which no receiver may see.
pub(crate) fn without_bcc(properties: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    if PropertiesView::new(properties)
        .headers()
        .is_none_or(|headers| headers.get("BCC").is_none())
    {
        return Ok(None);
    }
    let invalid = |e: &dyn std::fmt::Display| Error::InvalidArgument(e.to_string());
    let mut owned = PropertiesView::new(properties)
        .to_properties()
        .map_err(|e| invalid(&e))?;
    match owned
        .headers
        .as_mut()
        .and_then(|headers| headers.remove("BCC"))
    {
        Some(_) => owned.encode().map(Some).map_err(|e| invalid(&e)),
        None => Ok(None),
    }
}

/// Calls `f` with the queues of a draft, and with the draft as receivers may see it.
pub(crate) fn with_route<R>(
    exchange: &Exchange,
    draft: Draft<'_>,
    f: impl FnOnce(&[Arc<Queue>], Draft<'_>) -> R,
) -> Result<R, Error> {
    if let Some(keys) = extra_keys(&draft) {
        let stripped = without_bcc(draft.parts.properties)?;
        let queues = route_all(&*exchange.vhost()?, exchange, &keys, draft.headers());
        let mut visible = draft;
        if let Some(properties) = &stripped {
            visible.parts.properties = properties;
        }
        return Ok(f(&queues, visible));
    }
    exchange.cache().with(
        exchange,
        draft.parts.routing_key,
        draft.headers(),
        |queues| f(queues, draft),
    )
}

pub(crate) fn publish_one(
    exchange: &Exchange,
    message: &NewMessage<'_>,
    draft: Draft<'_>,
) -> Result<Published, Error> {
    let mandatory = message.mandatory;
    with_route(exchange, draft, |queues, draft| {
        if queues.is_empty() {
            if mandatory {
                return Err(unroutable(exchange, message.routing_key));
            }
            exchange.count(1, 1);
            return Ok(Published {
                accepted: 1,
                ..Published::default()
            });
        }
        let drafts = [draft];
        admit(queues, &drafts)?;
        let ticket = put(exchange.core(), queues, &drafts)?;
        exchange.count(1, 0);
        Ok(Published {
            ticket,
            routed: queues.len() as u32,
            accepted: 1,
        })
    })?
}

pub(crate) fn unroutable(exchange: &Exchange, routing_key: &str) -> Error {
    Error::Unroutable {
        exchange: exchange.name().to_string(),
        routing_key: routing_key.to_string(),
    }
}

/// Messages that go into one journal record together. Larger records save nothing, and are harder to find room for.
const BATCH_BYTES: usize = 256 << 10;
/// Bounds what a batch holds claimed at a time.
const BATCH_MESSAGES: usize = 1024;

pub(crate) fn publish_batch(
    exchange: &Exchange,
    messages: &[NewMessage<'_>],
) -> Result<Published, Error> {
    // Everything that is wrong with the messages themselves is found before the first is published.
    let now = exchange.core().clock.now_ns();
    let mut drafts = Vec::with_capacity(messages.len());
    for message in messages {
        drafts.push(Draft::new(exchange, message, now)?);
    }
    let mut published = Published::default();
    let mut start = 0;
    // Keys that do not matter do not part a batch.
    let any_key = exchange.cache().with_any_key(exchange, |_| ()).is_some();
    while start < messages.len() {
        // A run: same key, no headers that could route differently, same kind, limited in size.
        let first = &drafts[start];
        let mut end = start + 1;
        let mut bytes = first.parts.content_bytes();
        let plain = |d: &Draft<'_>| d.headers().is_none();
        if plain(first) {
            while end < messages.len()
                && end - start < BATCH_MESSAGES
                && bytes < BATCH_BYTES
                && (any_key || drafts[end].parts.routing_key == first.parts.routing_key)
                && (drafts[end].facts.due_ns == 0) == (first.facts.due_ns == 0)
                && messages[end].mandatory == messages[start].mandatory
                && plain(&drafts[end])
            {
                bytes += drafts[end].parts.content_bytes();
                end += 1;
            }
        }
        let outcome = publish_run(exchange, &drafts[start..end], messages[start].mandatory);
        match outcome {
            Ok((ticket, routed, accepted)) => {
                published.ticket = published.ticket.max(ticket);
                published.routed += routed;
                published.accepted = start + accepted;
                if published.accepted < end {
                    return Ok(published);
                }
            }
            // What was published stays published, so the caller must hear how far it went.
            Err(_) if start > 0 => return Ok(published),
            Err(error) => return Err(error),
        }
        start = end;
    }
    Ok(published)
}

fn publish_run(
    exchange: &Exchange,
    drafts: &[Draft<'_>],
    mandatory: bool,
) -> Result<(Ticket, u32, usize), Error> {
    let deliver = |queues: &[Arc<Queue>], drafts: &[Draft<'_>]| {
        if queues.is_empty() {
            if mandatory {
                return Err(unroutable(exchange, drafts[0].parts.routing_key));
            }
            exchange.count(drafts.len() as u64, drafts.len() as u64);
            return Ok((Ticket::NONE, 0, drafts.len()));
        }
        admit(queues, drafts)?;
        let ticket = put(exchange.core(), queues, drafts)?;
        exchange.count(drafts.len() as u64, 0);
        Ok((ticket, (queues.len() * drafts.len()) as u32, drafts.len()))
    };
    if let [draft] = drafts {
        return with_route(exchange, *draft, |queues, draft| deliver(queues, &[draft]))?;
    }
    if let Some(outcome) = exchange
        .cache()
        .with_any_key(exchange, |queues| deliver(queues, drafts))
    {
        return outcome;
    }
    let key = drafts[0].parts.routing_key;
    if drafts.iter().all(|draft| draft.parts.routing_key == key) {
        return exchange
            .cache()
            .with(exchange, key, None, |queues| deliver(queues, drafts))?;
    }
    // Keys did not matter when the run was put together; now they do.
    let (mut ticket, mut routed) = (Ticket::NONE, 0);
    for (index, draft) in drafts.iter().enumerate() {
        match with_route(exchange, *draft, |queues, draft| deliver(queues, &[draft]))? {
            Ok((one, queues, _)) => {
                ticket = ticket.max(one);
                routed += queues;
            }
            Err(error) if index == 0 => return Err(error),
            Err(_) => return Ok((ticket, routed, index)),
        }
    }
    Ok((ticket, routed, drafts.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiration_is_whole_milliseconds() {
        assert_eq!(parse_expiration(b"0").unwrap(), 0);
        assert_eq!(parse_expiration(b"1500").unwrap(), 1_500_000_000);
        for bad in [
            &b""[..],
            b"-1",
            b"1.5",
            b"+3",
            b" 7",
            b"99999999999999999999",
            b"\xff",
            b"315360000001",
        ] {
            assert!(parse_expiration(bad).is_err(), "{bad:?}");
        }
    }
}
