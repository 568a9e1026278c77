//! Publishing: from a checked message to its queues, one at a time or in batches.

use std::sync::Arc;

use smallvec::SmallVec;
use wherry_journal::Class;

use crate::commit::{InQueue, PublishRun, commit, write};
use crate::core::{Core, Event};
use crate::dedup::{Judgement, Judges, judged};
use crate::draft::{Draft, NewMessage};
use crate::error::Error;
use crate::exchange::Exchange;
use crate::message::{Message, Stored};
use crate::options::Overflow;
use crate::properties::PropertiesView;
use crate::queue::Queue;
use crate::route::{carbon_copies, route_all};
use crate::storage::Ticket;

/// What became of a publish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// When it is on stable storage.
    pub ticket: Ticket,
    /// Queues reached, summed over a batch.
    pub routed: u32,
    /// Messages published; less than given only by `publish_batch`.
    pub accepted: usize,
    /// Those among them that were there already, in every queue that they were for.
    pub duplicates: usize,
}

/// Puts messages into one queue that does not journal them: nothing has to be known before they are visible, so the
/// steps between fall away.
fn push_transient(queue: &Arc<Queue>, drafts: &[Draft<'_>]) {
    queue.announce(drafts, false);
    let messages = drafts.iter().map(|draft| {
        let message = Message::new(&draft.parts, draft.facts, 0);
        (InQueue(queue, draft), Stored::from_message(message))
    });
    queue
        .ready
        .push(messages, |InQueue(queue, draft), level, position| {
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
        });
    queue.after_entry(drafts.len());
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

/// The first queue that would refuse so many more messages with so many bytes of bodies.
fn refusing(queues: &[Arc<Queue>], messages: u64, bytes: u64) -> Option<&Arc<Queue>> {
    queues
        .iter()
        .find(|queue| queue.may_refuse() && queue.is_full(messages, bytes))
}

pub(crate) fn rejected(queue: &Queue) -> Error {
    Error::PublishRejected {
        queue: queue.name().to_string(),
    }
}

fn body_bytes(draft: &Draft<'_>) -> u64 {
    draft.parts.body.len() as u64
}

/// How many of the messages, from the first on, no queue refuses.
fn room(queues: &[Arc<Queue>], drafts: &[Draft<'_>]) -> usize {
    if !queues.iter().any(|queue| queue.may_refuse()) {
        return drafts.len();
    }
    let mut bytes: u64 = drafts.iter().map(body_bytes).sum();
    let mut room = drafts.len();
    while room > 0 && refusing(queues, room as u64, bytes).is_some() {
        room -= 1;
        bytes -= body_bytes(&drafts[room]);
    }
    room
}

/// For a message that one queue refuses: the others take it, as in RabbitMQ, so that a full queue that nobody consumes
/// from does not cut off the rest. Its publisher hears that it was refused.
fn put_where_there_is_room(
    core: &Core,
    queues: &[Arc<Queue>],
    draft: Draft<'_>,
) -> Result<Ticket, Error> {
    let bytes = body_bytes(&draft);
    let (full, open): (Vec<_>, Vec<_>) = queues
        .iter()
        .cloned()
        .partition(|queue| queue.may_refuse() && queue.is_full(1, bytes));
    let mut ticket = Ticket::NONE;
    if !open.is_empty() {
        ticket = put(core, &open, &[draft])?;
    }
    for queue in &full {
        refuse(queue, &draft);
    }
    // None is when consumers have made room meanwhile.
    full.first()
        .map_or(Ok(ticket), |queue| Err(rejected(queue)))
}

/// What a full queue does with a message that it refuses.
fn refuse(queue: &Queue, draft: &Draft<'_>) {
    queue.count_rejected(1);
    if queue.in_force().overflow == Overflow::RejectPublishDeadLetter {
        queue.dead_letter_refused(draft);
    }
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
        if judged(exchange, queues) {
            return publish_judged(exchange, queues, draft);
        }
        let drafts = [draft];
        let ticket = if room(queues, &drafts) == 0 {
            put_where_there_is_room(exchange.core(), queues, draft)?
        } else {
            put(exchange.core(), queues, &drafts)?
        };
        exchange.count(1, 0);
        Ok(Published {
            ticket,
            routed: queues.len() as u32,
            accepted: 1,
            duplicates: 0,
        })
    })?
}

/// A publish to where duplicates are known (dedup.rs). A queue that has the message already counts as reached.
fn publish_judged(
    exchange: &Exchange,
    queues: &[Arc<Queue>],
    draft: Draft<'_>,
) -> Result<Published, Error> {
    let core = exchange.core();
    let windows = exchange
        .window()
        .into_iter()
        .chain(queues.iter().filter_map(|queue| queue.window()));
    let mut judges = Judges::lock(windows, draft.facts.published_ns);
    let mut published = Published {
        ticket: Ticket::NONE,
        routed: queues.len() as u32,
        accepted: 1,
        duplicates: 0,
    };
    match judges.judge(exchange, queues, &draft)? {
        Judgement::Duplicate => {
            published.duplicates = 1;
            published.ticket = ticket_of_first(core, draft.facts.persistent);
        }
        Judgement::New(left) => {
            let drafts = [draft];
            // All or none: what a queue that took it remembered would make a duplicate of the next try.
            if let Some(full) = refusing(&left, 1, body_bytes(&draft)) {
                refuse(full, &draft);
                return Err(rejected(full));
            }
            let runs = [PublishRun {
                queues: &left,
                drafts: &drafts,
            }];
            let ids = &mut judges.entries;
            let (ticket, after) = write(core, &runs, &[], &[], ids, Class::Publish)?;
            published.ticket = ticket;
            if left.len() < queues.len() {
                published.ticket = ticket.max(ticket_of_first(core, draft.facts.persistent));
            }
            judges.keep();
            after.happen();
        }
    }
    exchange.count(1, 0);
    Ok(published)
}

/// A duplicate is confirmed no sooner than what it is a duplicate of.
fn ticket_of_first(core: &Core, persistent: bool) -> Ticket {
    match core.storage() {
        Some(storage) if persistent => storage.appended(),
        _ => Ticket::NONE,
    }
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
            Ok(run) => {
                published.ticket = published.ticket.max(run.ticket);
                published.routed += run.routed;
                published.duplicates += run.duplicates;
                published.accepted = start + run.accepted;
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
) -> Result<Published, Error> {
    let deliver = |queues: &[Arc<Queue>], drafts: &[Draft<'_>]| {
        if queues.is_empty() {
            if mandatory {
                return Err(unroutable(exchange, drafts[0].parts.routing_key));
            }
            exchange.count(drafts.len() as u64, drafts.len() as u64);
            return Ok(Published {
                accepted: drafts.len(),
                ..Published::default()
            });
        }
        if judged(exchange, queues) {
            return one_by_one(drafts, |draft| publish_judged(exchange, queues, *draft));
        }
        // A full queue refuses the first it has no room for; what comes behind is for the caller to publish again.
        let room = room(queues, drafts);
        let drafts = &drafts[..room.max(1)];
        let ticket = if room == 0 {
            put_where_there_is_room(exchange.core(), queues, drafts[0])?
        } else {
            put(exchange.core(), queues, drafts)?
        };
        exchange.count(drafts.len() as u64, 0);
        Ok(Published {
            ticket,
            routed: (queues.len() * drafts.len()) as u32,
            accepted: drafts.len(),
            duplicates: 0,
        })
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
    one_by_one(drafts, |draft| {
        with_route(exchange, *draft, |queues, draft| deliver(queues, &[draft]))?
    })
}

/// Sums up, as far as it goes; an error is one only for the first.
fn one_by_one<'a>(
    drafts: &[Draft<'a>],
    mut publish: impl FnMut(&Draft<'a>) -> Result<Published, Error>,
) -> Result<Published, Error> {
    let mut sum = Published::default();
    for (index, draft) in drafts.iter().enumerate() {
        match publish(draft) {
            Ok(one) => {
                sum.ticket = sum.ticket.max(one.ticket);
                sum.routed += one.routed;
                sum.duplicates += one.duplicates;
                sum.accepted += 1;
            }
            Err(error) if index == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(sum)
}
