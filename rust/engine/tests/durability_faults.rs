//! Disks that fail, fill up and lie, and what the broker promises meanwhile.

mod common;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use common::*;
use wherry_engine::testing::open_broken;
use wherry_engine::{
    Broker, BrokerOptions, Delay, Error, NewMessage, Notify, Outcome, QueueOptions, Ticket,
};
use wherry_journal::testing::{Fault, MemoryDisk, Sabotage, Survivors};
use wherry_journal::{Disk, DiskFile};

const SEGMENT: u32 = 16 << 10;

struct Tell(parking_lot::Mutex<Sender<()>>);

impl Notify for Tell {
    fn notify(&self, _: u64) {
        let _ = self.0.lock().send(());
    }
}

fn expected_kind(error: &Error) -> bool {
    matches!(
        error,
        Error::JournalFailed(_) | Error::DiskFull(_) | Error::Busy | Error::Io(_)
    )
}

/// What a user was told.
#[derive(Default)]
struct Told {
    tried: BTreeSet<String>,
    confirmed: BTreeSet<String>,
    /// Acknowledged, durably or not.
    acked: BTreeSet<String>,
    acked_durably: BTreeSet<String>,
}

/// Publishes, takes and acknowledges until it is done or the disk has had enough. Errors of a wrong kind are returned.
fn work(options: BrokerOptions, sabotage: Sabotage, told: &mut Told) -> Result<(), String> {
    let wrong = |doing: &str, error: &Error| {
        if expected_kind(error) {
            Ok(())
        } else {
            Err(format!("{doing}: {error:?}"))
        }
    };
    let broker = match open_broken(options, sabotage) {
        Ok(broker) => broker,
        Err(error) => return wrong("open", &error),
    };
    let durable = |ticket: Ticket| matches!(broker.wait_durable(ticket, Some(LONG)), Ok(true));
    let mut last: Option<Ticket> = None;
    let outcome = (|| {
        let queue = match host(&broker).declare_queue("q", QueueOptions::default()) {
            Ok((queue, _)) => queue,
            Err(error) => return wrong("declare", &error),
        };
        let consumer = consumer(&queue);
        let exchange = host(&broker).exchange("").unwrap();
        for i in 0..24 {
            let body = format!("{i} {}", "x".repeat(1200));
            told.tried.insert(body.clone());
            let mut tries = 0;
            let published = loop {
                match exchange.publish(&NewMessage::new("q", body.as_bytes())) {
                    Err(Error::Busy) if tries < 20 => {
                        tries += 1;
                        broker.wait_space(Some(Duration::from_millis(5)));
                    }
                    other => break other,
                }
            };
            match published {
                Ok(published) => {
                    if durable(published.ticket) {
                        told.confirmed.insert(body);
                        last = last.max(Some(published.ticket));
                    } else if broker.failed().is_none() {
                        return Err("neither durable nor failed".into());
                    }
                }
                Err(error) => wrong("publish", &error)?,
            }
            if i % 2 == 1 {
                for delivery in take(&consumer, 1) {
                    let body = String::from_utf8(delivery.message.body().to_vec()).unwrap();
                    told.acked.insert(body.clone());
                    match consumer.settle(delivery.tag, false, Outcome::Ack) {
                        Ok(ticket) => {
                            if ticket != Ticket::NONE && durable(ticket) {
                                told.acked_durably.insert(body);
                            }
                        }
                        Err(error) => wrong("ack", &error)?,
                    }
                }
            }
        }
        if let Some(error) = broker.failed() {
            let after = exchange.publish(&NewMessage::new("q", b"after"));
            if !matches!(after, Err(Error::JournalFailed(_))) {
                return Err(format!("a publish after {error:?} gives {after:?}"));
            }
            if broker.durable() < last.unwrap_or_default() {
                return Err("the watermark went back".into());
            }
        }
        Ok(())
    })();
    // On a thread of its own: it must not hang.
    let (sender, receiver) = channel();
    std::thread::spawn(move || sender.send(broker.close()));
    match receiver.recv_timeout(LONG) {
        Ok(Ok(()) | Err(Error::JournalFailed(_))) => outcome,
        Ok(Err(error)) => Err(format!("close: {error:?}")),
        Err(_) => Err("close hangs".into()),
    }
}

fn check(disk: &Arc<MemoryDisk>, told: &Told) -> Result<(), String> {
    let broker = Broker::open(options(disk, SEGMENT, START_NS)).map_err(|e| e.to_string())?;
    let Ok(queue) = host(&broker).queue("q") else {
        return if told.confirmed.is_empty() {
            Ok(())
        } else {
            Err("the queue is gone".into())
        };
    };
    let found = bodies(&queue);
    let set: BTreeSet<String> = found.iter().cloned().collect();
    let number = |body: &String| body.split(' ').next().unwrap().parse::<u32>().unwrap();
    if set.len() != found.len() || !found.is_sorted_by_key(number) {
        return Err("doubled, or out of order".into());
    }
    let short = |bodies: Vec<&String>| bodies.into_iter().map(number).collect::<Vec<_>>();
    let lost = told.confirmed.difference(&told.acked);
    let lost = lost.filter(|body| !set.contains(*body)).collect::<Vec<_>>();
    if !lost.is_empty() {
        return Err(format!("confirmed and lost: {:?}", short(lost)));
    }
    let risen: Vec<_> = told.acked_durably.intersection(&set).collect();
    if !risen.is_empty() {
        return Err(format!("acknowledged and back: {:?}", short(risen)));
    }
    let invented: Vec<_> = set.difference(&told.tried).collect();
    if !invented.is_empty() {
        return Err(format!("never published: {:?}", short(invented)));
    }
    Ok(())
}

fn one_fault(fault: Fault, sabotage: Sabotage) -> Result<bool, String> {
    let disk = MemoryDisk::new();
    disk.fail(Some(fault));
    let mut told = Told::default();
    work(options(&disk, SEGMENT, START_NS), sabotage, &mut told)?;
    let reached = disk.calls() > fault.after_calls;
    disk.fail(None);
    for survivors in [
        Survivors::None,
        Survivors::All,
        Survivors::Random(fault.after_calls),
    ] {
        let what = format!("{survivors:?}");
        check(&disk.crash(survivors), &told).map_err(|e| format!("{what}: {e}"))?;
    }
    Ok(reached)
}

fn every_fault(sabotage: Sabotage, step: u64) -> Result<u64, String> {
    for error in [ErrorKind::Other, ErrorKind::StorageFull] {
        for for_ever in [false, true] {
            let mut after_calls = 0;
            loop {
                let fault = Fault {
                    after_calls,
                    error,
                    for_ever,
                };
                if !one_fault(fault, sabotage).map_err(|e| format!("{fault:?}: {e}"))? {
                    break;
                }
                after_calls += step;
            }
        }
    }
    Ok(0)
}

#[test]
fn no_failing_call_loses_what_was_confirmed() {
    // Calls follow each other in a pattern that a step of 3 walks through; the nightly run takes them all.
    let step = std::env::var("WHERRY_EVERY_CALL").map_or(3, |_| 1);
    every_fault(Sabotage::default(), step).unwrap();
}

#[test]
fn a_journal_that_syncs_again_after_a_failed_sync_is_caught() {
    let sabotage = Sabotage {
        retry_failed_sync: true,
        ..Sabotage::default()
    };
    let caught = every_fault(sabotage, 1);
    assert!(caught.is_err(), "nobody noticed");
}

/// A disk that holds up the sync after a certain write.
struct Gated {
    disk: Arc<MemoryDisk>,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    closed: parking_lot::Mutex<bool>,
    changed: parking_lot::Condvar,
    /// Told when somebody waits.
    waiting: parking_lot::Mutex<Option<Sender<()>>>,
}

/// The write that closes the gate has this in it.
const MARK: &[u8] = b"the marked message";

impl Gate {
    fn written(&self, data: &[u8]) {
        if data.windows(MARK.len()).any(|window| window == MARK) {
            *self.closed.lock() = true;
        }
    }

    fn pass(&self) {
        let mut closed = self.closed.lock();
        if *closed && let Some(sender) = self.waiting.lock().take() {
            let _ = sender.send(());
        }
        while *closed {
            self.changed.wait(&mut closed);
        }
    }

    fn open(&self) {
        *self.closed.lock() = false;
        self.changed.notify_all();
    }
}

struct GatedFile(Arc<dyn DiskFile>, Arc<Gate>);

impl Disk for Gated {
    fn lock(&self) -> std::io::Result<Result<Box<dyn Send + Sync>, Option<u32>>> {
        self.disk.lock()
    }
    fn list(&self) -> std::io::Result<Vec<String>> {
        self.disk.list()
    }
    fn create(&self, name: &str, bytes: u64) -> std::io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.create(name, bytes)?;
        Ok(Arc::new(GatedFile(file, self.gate.clone())))
    }
    fn open(&self, name: &str) -> std::io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(name)?;
        Ok(Arc::new(GatedFile(file, self.gate.clone())))
    }
    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> std::io::Result<()> {
        self.disk.remove(name)
    }
    fn sync_directory(&self) -> std::io::Result<()> {
        self.disk.sync_directory()
    }
    fn coherent_maps(&self) -> bool {
        self.disk.coherent_maps()
    }
}

impl DiskFile for GatedFile {
    fn bytes(&self) -> std::io::Result<u64> {
        self.0.bytes()
    }
    fn read(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.0.read(buffer, offset)
    }
    fn write(&self, data: &[u8], offset: u64) -> std::io::Result<()> {
        self.1.written(data);
        self.0.write(data, offset)
    }
    fn sync(&self) -> std::io::Result<()> {
        self.1.pass();
        self.0.sync()
    }
    fn map(&self) -> std::io::Result<Arc<dyn wherry_journal::Mapping>> {
        self.0.map()
    }
}

/// A power failure while a sync is under way: what is confirmed by then must be there afterwards.
fn crash_within_a_sync(sabotage: Sabotage) -> Result<(), String> {
    let disk = MemoryDisk::new();
    let gate = Arc::new(Gate::default());
    let options = BrokerOptions {
        disk: Some(Arc::new(Gated {
            disk: disk.clone(),
            gate: gate.clone(),
        })),
        ..options(&disk, 256 << 10, START_NS)
    };
    let broker = open_broken(options, sabotage).map_err(|e| e.to_string())?;
    queue(&broker, "q", QueueOptions::default());
    settle_down(&broker);
    let (sender, receiver) = channel();
    *gate.waiting.lock() = Some(sender);
    let ticket = publish(&broker, "q", std::str::from_utf8(MARK).unwrap()).ticket;
    let consumer = consumer(&host(&broker).queue("q").unwrap());
    receiver.recv_timeout(LONG).expect("the committer syncs");
    let confirmed = broker.durable() >= ticket;
    let crashed = disk.crash(Survivors::None);
    // Nothing else waits for the disk.
    let delivery = take(&consumer, 1).remove(0);
    ack(&consumer, &delivery);
    gate.open();
    settle_down(&broker);
    broker.close().map_err(|e| e.to_string())?;
    let again = open(&crashed);
    if confirmed && again.statistics().ready != 1 {
        return Err("confirmed and lost".into());
    }
    Ok(())
}

#[test]
fn nothing_is_confirmed_before_its_sync_returned() {
    crash_within_a_sync(Sabotage::default()).unwrap();
}

#[test]
fn a_journal_that_confirms_before_its_sync_is_caught() {
    let sabotage = Sabotage {
        confirm_before_sync: true,
        ..Sabotage::default()
    };
    assert!(crash_within_a_sync(sabotage).is_err(), "nobody noticed");
}

#[test]
fn a_full_disk_stops_publishers_and_nobody_else() {
    let disk = MemoryDisk::new();
    let broker = Broker::open(options(&disk, SEGMENT, START_NS)).unwrap();
    let (sender, receiver) = channel();
    broker.watch(Arc::new(Tell(parking_lot::Mutex::new(sender))), 0);
    let q = queue(&broker, "q", QueueOptions::default());
    let exchange = host(&broker).exchange("").unwrap();
    disk.set_capacity_bytes(Some(6 * u64::from(SEGMENT)));
    let body = vec![b'x'; 500];
    let mut published = 0;
    loop {
        match exchange.publish(&NewMessage::new("q", &body)) {
            Ok(_) => published += 1,
            Err(Error::Busy) => {
                broker.wait_space(Some(Duration::from_millis(20)));
            }
            Err(Error::DiskFull(_)) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(
        published > 60,
        "{published} of 500 bytes in six segments of 16 KiB"
    );
    assert!(broker.failed().is_none(), "a full disk is not a broken one");
    // Consuming and acknowledging go on, and the space that they free lets publishers in again.
    let consumer = consumer(&q);
    let mut consumed = 0;
    loop {
        let deliveries = take(&consumer, 7);
        let Some(last) = deliveries.last() else {
            break;
        };
        consumed += deliveries.len();
        consumer.settle(last.tag, true, Outcome::Ack).unwrap();
    }
    assert_eq!(consumed, published);
    loop {
        match exchange.publish(&NewMessage::new("q", b"again")) {
            Ok(_) => break,
            Err(Error::DiskFull(_) | Error::Busy) => {
                receiver
                    .recv_timeout(LONG)
                    .expect("a notice that space is back");
            }
            Err(error) => panic!("{error}"),
        }
    }
    settle_down(&broker);
    let again = Broker::open(options(&disk.crash(Survivors::None), SEGMENT, START_NS)).unwrap();
    assert_eq!(bodies(&host(&again).queue("q").unwrap()), ["again"]);
}

#[test]
fn publishing_resumes_when_somebody_else_frees_the_disk() {
    let disk = MemoryDisk::new();
    let broker = Broker::open(options(&disk, SEGMENT, START_NS)).unwrap();
    let (sender, receiver) = channel();
    broker.watch(Arc::new(Tell(parking_lot::Mutex::new(sender))), 0);
    queue(&broker, "q", QueueOptions::default());
    let exchange = host(&broker).exchange("").unwrap();
    disk.set_capacity_bytes(Some(4 * u64::from(SEGMENT)));
    let mut freed = false;
    let mut after = 0;
    let body = vec![b'x'; 900];
    while after < 20 {
        match exchange.publish(&NewMessage::new("q", &body)) {
            Ok(_) => after += u32::from(freed),
            Err(Error::Busy) => {
                broker.wait_space(Some(Duration::from_millis(20)));
            }
            Err(Error::DiskFull(_)) if freed => {
                receiver
                    .recv_timeout(LONG)
                    .expect("a notice that space is back");
            }
            Err(Error::DiskFull(_)) => {
                freed = true;
                disk.set_capacity_bytes(None);
            }
            Err(error) => panic!("{error}"),
        }
    }
    let ready = broker.statistics().ready;
    settle_down(&broker);
    // Full again while it closes: that must not take long either, nor lose anything.
    disk.set_capacity_bytes(Some(0));
    broker.close().unwrap();
    disk.set_capacity_bytes(None);
    let again = Broker::open(options(&disk, SEGMENT, START_NS)).unwrap();
    assert_eq!(again.statistics().ready, ready);
}

#[test]
fn delayed_messages_that_find_no_room_come_in_their_order() {
    let disk = MemoryDisk::new();
    let broker = Broker::open(options(&disk, SEGMENT, START_NS)).unwrap();
    let q = queue(&broker, "q", QueueOptions::default());
    let exchange = host(&broker).exchange("").unwrap();
    let mut sent: Vec<Vec<u8>> = Vec::new();
    while sent.len() < 300 {
        let mut body = vec![b'x'; 500];
        body[..8].copy_from_slice(&(sent.len() as u64).to_be_bytes());
        let message = NewMessage {
            persistent: true,
            delay: Delay::For(Duration::from_millis(1000 + sent.len() as u64)),
            ..NewMessage::new("q", &body)
        };
        match exchange.publish(&message) {
            Ok(_) => sent.push(body),
            Err(Error::Busy) => {
                broker.wait_space(Some(Duration::from_millis(20)));
            }
            Err(error) => panic!("{error}"),
        }
    }
    settle_down(&broker);
    // Not even files that were freed meanwhile.
    disk.refuse_files(Some(ErrorKind::StorageFull));
    broker.advance(Duration::from_secs(2)).unwrap();
    assert!(q.statistics().scheduled > 0, "some find no room");
    disk.refuse_files(None);
    let deadline = Instant::now() + LONG;
    while q.statistics().scheduled > 0 {
        assert!(Instant::now() < deadline, "{:?}", q.statistics());
        broker.wait_space(Some(Duration::from_millis(20)));
        broker.advance(Duration::from_millis(100)).unwrap();
    }
    let consumer = consumer(&q);
    let got: Vec<Vec<u8>> = take(&consumer, 1000)
        .iter()
        .map(|delivery| delivery.message.body().to_vec())
        .collect();
    assert!(got == sent, "all, in the order of their times");
    broker.close().unwrap();
}

#[test]
fn what_comes_back_to_a_failed_journal_comes_back_whole() {
    for leaves in [false, true] {
        let disk = MemoryDisk::new();
        let broker = Broker::open(options(&disk, SEGMENT, START_NS)).unwrap();
        let q = queue(
            &broker,
            "q",
            QueueOptions {
                delivery_limit: Some(9),
                ..Default::default()
            },
        );
        let exchange = host(&broker).exchange("").unwrap();
        let publish = || exchange.publish(&NewMessage::new("q", b"x")).unwrap();
        (0..3).for_each(|_| {
            publish();
        });
        let consumer = consumer(&q);
        assert_eq!(take(&consumer, 3).len(), 3);
        settle_down(&broker);
        disk.fail(Some(Fault {
            after_calls: 0,
            error: ErrorKind::Other,
            for_ever: true,
        }));
        let failed = broker.wait_durable(publish().ticket, Some(LONG));
        assert!(matches!(failed, Err(Error::JournalFailed(_))), "{failed:?}");
        if leaves {
            consumer.cancel_lost();
        } else {
            let nack = Outcome::Nack { requeue: true };
            let told = consumer.settle(0, true, nack);
            assert!(matches!(told, Err(Error::JournalFailed(_))), "{told:?}");
        }
        let statistics = q.statistics();
        assert_eq!((statistics.ready, statistics.unacked), (4, 0));
    }
}

#[test]
fn opening_on_a_failing_disk_is_an_error_that_can_be_tried_again() {
    let disk = MemoryDisk::new();
    let first = open(&disk);
    queue(&first, "q", QueueOptions::default());
    publish(&first, "q", "m");
    settle_down(&first);
    let disk = disk.crash(Survivors::All);
    for after_calls in 0.. {
        disk.fail(Some(Fault {
            after_calls,
            error: ErrorKind::Other,
            for_ever: false,
        }));
        let opened = Broker::open(options(&disk, 256 << 10, START_NS));
        let reached = disk.calls() > after_calls;
        disk.fail(None);
        match opened {
            Ok(broker) => drop(broker.close()),
            Err(error) => assert!(expected_kind(&error), "{error:?}"),
        }
        let broker = open(&disk); // its lock was let go
        assert_eq!(broker.statistics().ready, 1);
        broker.close().unwrap();
        if !reached {
            break;
        }
    }
}
