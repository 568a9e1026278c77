//! Random work on a broker, a crash at a random moment, and what a new broker makes of what is left.
//!
//! After each step everything in the queues is noted. The journal is one log, so what a crash leaves must be the state
//! after one of the steps that were under way since the last one known to be durable, or, for steps of several
//! records, something between two of them. Beside that a plain count says how many copies of each message there must
//! be, so that a broker that loses messages in memory as well as on the disk is noticed.
//!
//! A failure prints its seed: `WHERRY_SEED=n cargo test -p wherry-engine --test crash_model` runs that one alone,
//! `WHERRY_SEEDS=n` runs more of them.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use common::*;
use wherry_engine::properties::Properties;
use wherry_engine::table::{Table, Value};
use wherry_engine::{
    Broker, Consumer, Delay, Delivery, NewMessage, Outcome, Queue, QueueOptions, RetryKind,
    RetryPolicy,
};
use wherry_journal::testing::{MemoryDisk, Survivors};

const SEEDS: u64 = 50;
const STEPS: usize = 60;
const SECOND_NS: u64 = 1_000_000_000;
const QUEUES: [&str; 9] = [
    "plain", "fan", "lanes", "groups", "retries", "brief", "short", "dead", "passing",
];

fn queue_options(name: &str) -> QueueOptions {
    let lettered = QueueOptions {
        dead_letter_exchange: Some("".into()),
        dead_letter_routing_key: Some("dead".into()),
        ..Default::default()
    };
    match name {
        "lanes" => QueueOptions {
            max_priority: Some(3),
            ..lettered
        },
        "groups" => QueueOptions {
            group_by: Some("g".into()),
            ..lettered
        },
        "retries" => QueueOptions {
            retry: Some(RetryPolicy {
                kind: RetryKind::Linear,
                attempts: 3,
                first: Duration::from_secs(2),
                factor: 1.0,
                maximum: None,
                jitter: false,
                dead_letter: Some("dead".into()),
            }),
            ..Default::default()
        },
        "brief" => QueueOptions {
            message_ttl: Some(Duration::from_secs(4)),
            ..lettered
        },
        "short" => QueueOptions {
            max_length: Some(3),
            ..lettered
        },
        "dead" => QueueOptions::default(),
        _ => lettered,
    }
}

/// One copy of a message in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stands {
    /// The queue itself, or a binding, is there.
    Exists,
    Ready {
        level: u8,
        position: u64,
        failures: u32,
    },
    Delayed {
        due_ns: u64,
    },
    Retry {
        due_ns: u64,
        level: u8,
        position: u64,
        failures: u32,
    },
}

/// Copies by queue and body.
type State = BTreeMap<(String, String), Vec<Stands>>;

struct World {
    random: Random,
    broker: Arc<Broker>,
    consumers: BTreeMap<&'static str, Arc<Consumer>>,
    held: Vec<(&'static str, Delivery)>,
    /// Level, position and failures of what waits for a retry, which the broker does not tell.
    waiting: BTreeMap<(String, String), (u8, u64, u32)>,
    /// How many copies there must be.
    expected: BTreeMap<String, usize>,
    next: u64,
    now_ns: u64,
    /// Step and what was handed out in it.
    taken: Vec<(usize, (String, String))>,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// All durable copies in the broker; `place` tells of retries what the broker does not.
fn observe(
    broker: &Broker,
    place: impl Fn(&(String, String)) -> (u8, u64, u32),
) -> (State, Vec<(String, String)>) {
    let mut state = State::new();
    let mut flagged = Vec::new();
    let host = host(broker);
    for name in QUEUES {
        let Ok(queue) = host.queue(name) else {
            continue;
        };
        state
            .entry((name.into(), String::new()))
            .or_default()
            .push(Stands::Exists);
        for b in queue.browse(0, usize::MAX) {
            if b.message.persistent() {
                let key = (name.to_string(), text(b.message.body()));
                if b.redelivered {
                    flagged.push(key.clone());
                }
                state.entry(key).or_default().push(Stands::Ready {
                    level: b.priority,
                    position: b.position,
                    failures: b.delivery_count,
                });
            }
        }
        for s in queue.scheduled() {
            if s.message.persistent() {
                let key = (name.to_string(), text(s.message.body()));
                let due_ns = s.due_ns;
                let stands = if s.retry {
                    let (level, position, failures) = place(&key);
                    Stands::Retry {
                        due_ns,
                        level,
                        position,
                        failures,
                    }
                } else {
                    Stands::Delayed { due_ns }
                };
                state.entry(key).or_default().push(stands);
            }
        }
    }
    for binding in host.exchange("amq.topic").unwrap().bindings() {
        let key = (format!("binding {}", binding.routing_key), String::new());
        state.entry(key).or_default().push(Stands::Exists);
    }
    (state, flagged)
}

fn sorted(mut state: State) -> State {
    for copies in state.values_mut() {
        copies.sort();
    }
    state
}

/// As a broker that is opened at `now_ns` shows it: retries that are due are ready, others do not tell their place.
fn at_opening(state: &State, now_ns: u64) -> State {
    let mut state = state.clone();
    for stands in state.values_mut().flatten() {
        if let Stands::Retry {
            due_ns,
            level,
            position,
            failures,
        } = *stands
        {
            *stands = if due_ns <= now_ns {
                Stands::Ready {
                    level,
                    position,
                    failures,
                }
            } else {
                Stands::Retry {
                    due_ns,
                    level: 0,
                    position: 0,
                    failures: 0,
                }
            };
        }
    }
    sorted(state)
}

fn totals(state: &State) -> BTreeMap<&str, usize> {
    let mut totals = BTreeMap::new();
    for ((_, body), copies) in state {
        *totals.entry(body.as_str()).or_default() += copies.len();
    }
    totals
}

impl World {
    fn open(disk: &Arc<MemoryDisk>, seed: u64, segment_bytes: u32) -> World {
        let broker = Broker::open(options(disk, segment_bytes, START_NS)).unwrap();
        let mut consumers = BTreeMap::new();
        for name in QUEUES {
            let queue = queue(&broker, name, queue_options(name));
            consumers.insert(name, consumer(&queue));
        }
        for name in ["plain", "fan"] {
            let host = host(&broker);
            patiently(&broker, || {
                host.bind_queue(name, "amq.fanout", "", Table::default())
            });
        }
        World {
            random: Random::new(seed),
            broker,
            consumers,
            held: Vec::new(),
            waiting: BTreeMap::new(),
            expected: BTreeMap::new(),
            next: 0,
            now_ns: START_NS,
            taken: Vec::new(),
        }
    }

    fn state(&self) -> State {
        let place = |key: &(String, String)| self.waiting.get(key).copied().unwrap_or_default();
        let (mut state, _) = observe(&self.broker, place);
        for (name, delivery) in &self.held {
            if delivery.message.persistent() {
                let key = (name.to_string(), text(delivery.message.body()));
                state.entry(key).or_default().push(Stands::Ready {
                    level: delivery.priority,
                    position: delivery.position,
                    failures: delivery.delivery_count,
                });
            }
        }
        sorted(state)
    }

    fn body(&mut self, copies: usize) -> String {
        self.next += 1;
        let body = format!("m{}", self.next);
        if copies > 0 {
            self.expected.insert(body.clone(), copies);
        }
        body
    }

    fn queue(&self, name: &str) -> Option<Arc<Queue>> {
        host(&self.broker).queue(name).ok()
    }

    fn gone(&mut self, body: &str) {
        if let Some(copies) = self.expected.get_mut(body) {
            *copies -= 1;
        }
    }

    fn send(&self, exchange: &str, message: &NewMessage<'_>) {
        let exchange = host(&self.broker).exchange(exchange).unwrap();
        patiently(&self.broker, || exchange.publish(message));
    }

    fn held(&mut self) -> Option<(&'static str, Delivery)> {
        if self.held.is_empty() {
            return None;
        }
        let index = self.random.below(self.held.len() as u64) as usize;
        Some(self.held.swap_remove(index))
    }

    /// Dead messages for which the journal had no room are tried again; true if there were any.
    fn bury_the_dead(&mut self) -> bool {
        let mut any = false;
        loop {
            let queues = host(&self.broker).queues();
            let mut waiting = queues.iter().flat_map(|q| q.scheduled());
            // All other times are whole seconds from the start.
            if !waiting.any(|s| !(s.due_ns - START_NS).is_multiple_of(SECOND_NS)) {
                return any;
            }
            any = true;
            settle_down(&self.broker);
            for millis in [100, 900] {
                self.broker.advance(Duration::from_millis(millis)).unwrap();
            }
            self.now_ns += SECOND_NS;
        }
    }

    /// Does something; true if it is one record at most.
    fn step(&mut self, number: usize) -> bool {
        let broker = self.broker.clone();
        match self.random.below(24) {
            0 | 1 => {
                let name =
                    ["plain", "retries", "brief", "passing", "dead"][self.random.below(5) as usize];
                if self.queue(name).is_some() {
                    let body = self.body(1);
                    publish(&broker, name, &body);
                }
            }
            2 => {
                let body = self.body(2);
                self.send("amq.fanout", &NewMessage::new("", body.as_bytes()));
            }
            3 => {
                let body = self.body(1);
                let delay = Duration::from_secs(1 + self.random.below(5));
                let message = NewMessage {
                    delay: Delay::For(delay),
                    ..NewMessage::new("plain", body.as_bytes())
                };
                self.send("", &message);
            }
            4 => {
                let body = self.body(1);
                let millis = 1000 * (1 + self.random.below(5));
                let properties = Properties {
                    expiration: Some(millis.to_string().into_bytes()),
                    ..Default::default()
                };
                let name = ["plain", "fan", "brief"][self.random.below(3) as usize];
                publish_with(&broker, name, &body, &properties);
            }
            5 | 6 => {
                let body = self.body(1);
                let properties = Properties {
                    priority: Some(self.random.below(5) as u8),
                    ..Default::default()
                };
                publish_with(&broker, "lanes", &body, &properties);
            }
            7 | 8 => {
                let body = self.body(1);
                let group = ["a", "b", "c"][self.random.below(3) as usize];
                let properties = Properties {
                    headers: Some(Table::from_iter([("g", Value::Str(group.into()))])),
                    ..Default::default()
                };
                publish_with(&broker, "groups", &body, &properties);
            }
            9 => {
                let body = self.body(0);
                let message = NewMessage {
                    persistent: false,
                    ..NewMessage::new("plain", body.as_bytes())
                };
                self.send("", &message);
            }
            10 => {
                let bodies: Vec<String> = (0..3).map(|_| self.body(1)).collect();
                let messages: Vec<_> = bodies
                    .iter()
                    .map(|body| NewMessage::new("plain", body.as_bytes()))
                    .collect();
                let exchange = host(&broker).exchange("").unwrap();
                let published = patiently(&broker, || exchange.publish_batch(&messages));
                assert_eq!(published.accepted, 3, "one record takes all three");
            }
            11..=13 => {
                let name = QUEUES[self.random.below(QUEUES.len() as u64) as usize];
                let max = 1 + self.random.below(3) as usize;
                for delivery in take(&self.consumers[name], max) {
                    let key = (name.to_string(), text(delivery.message.body()));
                    self.taken.push((number, key));
                    self.held.push((name, delivery));
                }
            }
            14 => {
                if let Some((name, delivery)) = self.held() {
                    ack(&self.consumers[name], &delivery);
                    self.gone(&text(delivery.message.body()));
                }
            }
            15 => {
                if let Some((name, first)) = self.held() {
                    let (same, others) = std::mem::take(&mut self.held)
                        .into_iter()
                        .partition(|(n, _)| *n == name);
                    self.held = others;
                    let mut all: Vec<(&str, Delivery)> = same;
                    all.push((name, first));
                    let tags: Vec<u64> = all.iter().map(|(_, d)| d.tag).collect();
                    self.consumers[name]
                        .settle_many(&tags, Outcome::Ack)
                        .unwrap();
                    for (_, delivery) in all {
                        self.gone(&text(delivery.message.body()));
                    }
                }
            }
            16 | 17 => {
                if let Some((name, delivery)) = self.held() {
                    let key = (name.to_string(), text(delivery.message.body()));
                    let place = (
                        delivery.priority,
                        delivery.position,
                        delivery.delivery_count + 1,
                    );
                    self.waiting.insert(key, place);
                    let consumer = &self.consumers[name];
                    consumer
                        .settle(delivery.tag, false, Outcome::Failed)
                        .unwrap();
                }
            }
            18 => {
                if let Some((name, delivery)) = self.held() {
                    if name == "dead" {
                        self.gone(&text(delivery.message.body()));
                    }
                    let outcome = Outcome::Reject { requeue: false };
                    let consumer = &self.consumers[name];
                    consumer.settle(delivery.tag, false, outcome).unwrap();
                }
            }
            19 => {
                let mut transaction = host(&broker).transaction();
                let exchange = host(&broker).exchange("").unwrap();
                for name in ["plain", "retries", "fan"] {
                    let body = self.body(1);
                    let message = NewMessage::new(name, body.as_bytes());
                    transaction.publish(&exchange, &message).unwrap();
                }
                let settled = self.held();
                if let Some((name, delivery)) = &settled {
                    let consumer = &self.consumers[name];
                    transaction
                        .settle(consumer, delivery.tag, false, Outcome::Ack)
                        .unwrap();
                    let body = text(delivery.message.body());
                    self.gone(&body);
                }
                patiently(&broker, || transaction.commit());
            }
            20 => {
                let plain = self.queue("plain").unwrap();
                if self.random.one_in(3) {
                    for b in plain.browse(0, usize::MAX) {
                        self.gone(&text(b.message.body()));
                    }
                    plain.purge().unwrap();
                } else {
                    let fan = self.queue("fan").unwrap();
                    patiently(&broker, || fan.move_to(&plain, Some(3)));
                }
            }
            21 => match self.random.below(3) {
                0 => {
                    let plain = self.queue("plain").unwrap();
                    if let Some(s) = plain.scheduled().into_iter().find(|s| !s.retry) {
                        assert!(patiently(&broker, || plain.cancel_scheduled(s.id)).0);
                        self.gone(&text(s.message.body()));
                    }
                }
                1 => {
                    let host = host(&broker);
                    let exchange = host.exchange("amq.topic").unwrap();
                    if exchange.bindings().is_empty() {
                        patiently(&broker, || {
                            host.bind_queue("plain", "amq.topic", "a.#", Table::default())
                        });
                    } else {
                        patiently(&broker, || {
                            host.unbind_queue("plain", "amq.topic", "a.#", Table::default())
                        });
                    }
                }
                _ => match self.queue("passing") {
                    Some(queue) => {
                        let mut bodies: Vec<String> = queue
                            .browse(0, usize::MAX)
                            .iter()
                            .map(|b| text(b.message.body()))
                            .collect();
                        let (there, others) = std::mem::take(&mut self.held)
                            .into_iter()
                            .partition(|(name, _)| *name == "passing");
                        self.held = others;
                        let there: Vec<(&str, Delivery)> = there;
                        bodies.extend(there.iter().map(|(_, d)| text(d.message.body())));
                        for body in bodies {
                            self.gone(&body);
                        }
                        let host = host(&broker);
                        patiently(&broker, || host.delete_queue("passing", false, false));
                    }
                    None => {
                        let queue = queue(&broker, "passing", queue_options("passing"));
                        self.consumers.insert("passing", consumer(&queue));
                    }
                },
            },
            22 => {
                let body = self.body(1);
                publish(&broker, "short", &body);
                return false;
            }
            _ => {
                if self.random.one_in(3) {
                    // Gives everything back, with no verdict.
                    let name = QUEUES[self.random.below(QUEUES.len() as u64) as usize];
                    if let Some(queue) = self.queue(name) {
                        self.consumers[name].cancel();
                        self.held.retain(|(n, _)| *n != name);
                        self.consumers.insert(name, consumer(&queue));
                    }
                } else {
                    let by = 1 + self.random.below(3);
                    broker.advance(Duration::from_secs(by)).unwrap();
                    self.now_ns += by * SECOND_NS;
                }
                return false;
            }
        }
        true
    }
}

/// What happened, for the judge.
struct Story {
    states: Vec<State>,
    /// Whether step i (which led to state i) is one record.
    atomic: Vec<bool>,
    taken: Vec<(usize, (String, String))>,
    now_ns: u64,
    /// Segments are so small that the journal often has no room at the first try.
    crowded: bool,
}

impl Story {
    /// Whether `found` lies between two states.
    fn between(&self, found: &State, a: &State, b: &State) -> bool {
        let keys = found.keys().chain(a.keys()).chain(b.keys());
        for key in keys {
            let at = |state: &State| state.get(key).cloned().unwrap_or_default();
            let now = at(found);
            if now != at(a) && now != at(b) {
                return false;
            }
        }
        let (found, a, b) = (totals(found), totals(a), totals(b));
        found
            .iter()
            .all(|(body, n)| a.get(body) == Some(n) || b.get(body) == Some(n))
    }

    /// What a broker shows that was opened after a crash, of which all up to step `durable` is known to be safe.
    fn judge(&self, broker: &Broker, durable: usize) -> Result<State, String> {
        let (found, flagged) = observe(broker, |_| (0, 0, 0));
        let found = sorted(found);
        let candidates: Vec<State> = self.states[durable..]
            .iter()
            .map(|state| at_opening(state, self.now_ns))
            .collect();
        let step = candidates.iter().enumerate().find_map(|(i, state)| {
            let exact = found == *state;
            let between = candidates.get(i + 1).is_some_and(|next| {
                !self.atomic[durable + i + 1] && self.between(&found, state, next)
            });
            (exact || between).then_some(durable + i)
        });
        let Some(step) = step else {
            // Against the state that it is most like.
            let differences = |state: &State| -> Vec<String> {
                let keys: BTreeSet<_> = found.keys().chain(state.keys()).collect();
                let differ = keys.into_iter().filter(|k| state.get(*k) != found.get(*k));
                let line = |k| {
                    format!(
                        "\n    {k:?}: {:?} then, {:?} found",
                        state.get(k),
                        found.get(k)
                    )
                };
                differ.map(line).collect()
            };
            let likeness = candidates.iter().map(differences).enumerate();
            let (nearest, lines) = likeness.min_by_key(|(_, lines)| lines.len()).unwrap();
            let report = format!(
                "step {durable} was durable, this is most like step {}:{}",
                durable + nearest,
                lines.concat()
            );
            return Err(report);
        };
        if !self.crowded {
            for (taken, key) in &self.taken {
                let stands = found
                    .get(key)
                    .is_some_and(|copies| copies.iter().any(|c| matches!(c, Stands::Ready { .. })));
                if *taken <= durable && stands && !flagged.contains(key) {
                    return Err(format!("{key:?} was handed out, and is not flagged"));
                }
            }
            for key in &flagged {
                let taken = self.taken.iter().any(|(_, (queue, _))| *queue == key.0);
                // Moving messages takes them.
                if !taken && key.0 != "fan" && key.0 != "short" {
                    return Err(format!(
                        "{key:?} is flagged, and nothing was taken there ({step})"
                    ));
                }
            }
        }
        Ok(found)
    }
}

fn reopen(disk: &Arc<MemoryDisk>, segment_bytes: u32, now_ns: u64) -> Result<Arc<Broker>, String> {
    Broker::open(options(disk, segment_bytes, now_ns)).map_err(|e| format!("does not open: {e}"))
}

/// The seed's whole story; the number of crash states looked at.
fn run(seed: u64) -> Result<usize, String> {
    let crowded = seed % 2 == 1;
    let segment_bytes = if crowded { 8 << 10 } else { 256 << 10 };
    let disk = MemoryDisk::new();
    let mut world = World::open(&disk, seed, segment_bytes);
    settle_down(&world.broker);
    disk.record();
    let mut states = vec![world.state()];
    let mut atomic = vec![true];
    for number in 1..=STEPS {
        let one_record = world.step(number);
        atomic.push(!world.bury_the_dead() && one_record);
        // What was put off for want of room is written before anything else happens.
        patiently(&world.broker, || world.broker.barrier());
        let state = world.state();
        let mut counted = totals(&state);
        counted.remove("");
        for (body, copies) in &world.expected {
            if counted.get(body.as_str()).copied().unwrap_or(0) != *copies {
                return Err(format!(
                    "{body} should be there {copies} times after step {number}: {:?}",
                    counted.get(body.as_str())
                ));
            }
        }
        states.push(state);
        if world.random.one_in(2) {
            settle_down(&world.broker);
            disk.mark(number as u64);
        }
    }
    let story = Story {
        states,
        atomic,
        taken: world.taken.clone(),
        now_ns: world.now_ns,
        crowded,
    };
    let history = disk.history();
    drop(world);

    let mut random = Random::new(seed ^ 0x5eed);
    let points: Vec<usize> = (0..12)
        .map(|_| random.below(history.len() as u64 + 1) as usize)
        .collect();
    let mut looked_at = 0;
    let mut outcome = Ok(());
    history.for_each_point(|point| {
        if outcome.is_err() || !points.contains(&point.operations) {
            return;
        }
        let durable = point.marks.iter().max().copied().unwrap_or(0) as usize;
        point.for_each_state(2, seed, |what, disk| {
            // Each alone and each missing are many: some of them.
            let many = what.contains("Only") || what.contains("AllBut");
            if outcome.is_err() || many && !random.one_in(4) {
                return;
            }
            looked_at += 1;
            let again = random.one_in(4);
            outcome = crash(
                &story,
                disk,
                segment_bytes,
                durable,
                again.then_some(random.next()),
            )
            .map_err(|e| format!("crash {what}: {e}"));
        });
    });
    outcome.map(|()| looked_at)
}

/// One disk that a crash left. With a seed, recovery crashes as well.
fn crash(
    story: &Story,
    disk: Arc<MemoryDisk>,
    segment_bytes: u32,
    durable: usize,
    again: Option<u64>,
) -> Result<(), String> {
    disk.record();
    let broker = reopen(&disk, segment_bytes, story.now_ns)?;
    let found = story.judge(&broker, durable)?;
    if let Some(seed) = again {
        settle_down(&broker);
        let history = disk.history();
        let mut random = Random::new(seed);
        let chosen = random.below(history.len() as u64 + 1) as usize;
        let mut outcome = Ok(());
        history.for_each_point(|point| {
            if point.operations != chosen {
                return;
            }
            point.for_each_state(1, seed, |what, disk| {
                if outcome.is_ok() && random.one_in(4) {
                    outcome = reopen(&disk, segment_bytes, story.now_ns).and_then(|again| {
                        let second = story.judge(&again, durable)?;
                        if second == found {
                            Ok(())
                        } else {
                            Err(format!("recovering again, {what}, gives another state"))
                        }
                    });
                }
            });
        });
        outcome?;
        // Everything can be had, once.
        broker.advance(Duration::from_secs(3600)).unwrap();
        while broker.statistics().scheduled > 0 {
            settle_down(&broker);
            broker.advance(Duration::from_secs(1)).unwrap();
        }
        let mut had: BTreeMap<String, usize> = BTreeMap::new();
        for queue in host(&broker).queues() {
            let consumer = consumer(&queue);
            loop {
                let deliveries = take(&consumer, 100);
                if deliveries.is_empty() {
                    break;
                }
                for delivery in deliveries {
                    *had.entry(text(delivery.message.body())).or_default() += 1;
                    ack(&consumer, &delivery);
                }
            }
        }
        let mut wanted = totals(&found);
        wanted.remove("");
        let had: BTreeMap<&str, usize> = had.iter().map(|(k, n)| (k.as_str(), *n)).collect();
        if had != wanted {
            return Err(format!("could be had: {had:?}, wanted {wanted:?}"));
        }
        settle_down(&broker);
        let disk = disk.crash(Survivors::None);
        let broker = reopen(&disk, segment_bytes, story.now_ns)?;
        let left = broker.statistics().ready;
        if left != 0 {
            return Err(format!("{left} acknowledged messages came back"));
        }
    }
    Ok(())
}

#[test]
fn whatever_a_crash_leaves_is_a_state_that_was() {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let seeds = match number("WHERRY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("WHERRY_SEEDS").unwrap_or(SEEDS),
    };
    let mut looked_at = 0;
    for seed in seeds {
        match run(seed) {
            Ok(n) => looked_at += n,
            Err(error) => panic!("WHERRY_SEED={seed}: {error}"),
        }
    }
    println!("{looked_at} crash states");
    assert!(looked_at > 0);
}
