//! Direct reply-to: names, delivery, bounds.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wherry_engine::{Message, Notify};
use wherry_session::{REPLY_TO, Replies, ReplyInbox};

#[derive(Default)]
struct Bell(AtomicU64);

impl Notify for Bell {
    fn notify(&self, token: u64) {
        self.0.fetch_add(token, Ordering::Relaxed);
    }
}

impl Bell {
    fn rung(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

fn open(bytes_max: u64) -> (Replies, ReplyInbox, Arc<Bell>) {
    let replies = Replies::default();
    let bell = Arc::new(Bell::default());
    let inbox = replies.open(bell.clone(), 1, bytes_max).unwrap();
    (replies, inbox, bell)
}

fn reply(body: &[u8]) -> Message {
    Message::from_parts("", "key", &[], body).unwrap()
}

fn bodies(inbox: &ReplyInbox, max: usize) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    assert_eq!(inbox.take(max, &mut out), out.len());
    out.iter().map(|m| m.body().to_vec()).collect()
}

#[test]
fn replies_come_in_order_and_ring_once() {
    let (replies, inbox, bell) = open(1 << 20);
    for body in [b"1", b"2", b"3"] {
        assert!(replies.send(inbox.name(), reply(body)));
    }
    assert_eq!(bell.rung(), 1);
    assert_eq!(bodies(&inbox, 2), [b"1", b"2"]);
    assert!(!inbox.is_empty());
    assert_eq!(bodies(&inbox, 9), [b"3"]);
    assert!(inbox.is_empty());
    replies.send(inbox.name(), reply(b"4"));
    assert_eq!(bell.rung(), 2);
}

#[test]
fn a_full_inbox_drops_and_counts_and_has_room_again() {
    let (replies, inbox, _) = open(1000);
    for _ in 0..20 {
        assert!(replies.send(inbox.name(), reply(&[0; 100])), "at most once");
    }
    let kept = bodies(&inbox, 100).len() as u64;
    assert!((1..=9).contains(&kept), "{kept}");
    assert_eq!(inbox.dropped(), 20 - kept);
    assert_eq!(replies.dropped(), 20 - kept);
    for _ in 0..kept {
        replies.send(inbox.name(), reply(&[0; 100]));
    }
    assert_eq!(bodies(&inbox, 100).len() as u64, kept);
}

#[test]
fn replies_without_a_body_are_bounded_too() {
    let (replies, inbox, _) = open(6400);
    for _ in 0..1000 {
        replies.send(inbox.name(), Message::from_parts("", "", &[], b"").unwrap());
    }
    assert_eq!(bodies(&inbox, 1000).len(), 100);
}

#[test]
fn only_names_of_open_inboxes_exist() {
    let (replies, inbox, _) = open(1000);
    let name = inbox.name().to_owned();
    assert!(replies.exists(&name));
    let near = format!("{}x", &name[..name.len() - 1]);
    let long = format!("{name}x");
    let others = ["", "q", REPLY_TO, "amq.rabbitmq.reply-to.", &near, &long];
    for other in others.into_iter().filter(|other| *other != name) {
        assert!(!replies.exists(other), "{other}");
        assert!(!replies.send(other, reply(b"")), "{other}");
    }
    drop(inbox);
    assert!(!replies.exists(&name));
    assert_eq!(replies.open_count(), 0);
}

#[test]
fn names_are_long_random_and_plain() {
    let (replies, first, bell) = open(1);
    let inboxes: Vec<_> = (0..500)
        .map(|_| replies.open(bell.clone(), 1, 1).unwrap())
        .collect();
    let names: HashSet<&str> = inboxes.iter().map(|inbox| inbox.name()).collect();
    assert_eq!(names.len(), 500);
    assert!(!names.contains(first.name()));
    let mut letters = HashSet::new();
    for name in names {
        let secret = name
            .strip_prefix(REPLY_TO)
            .unwrap()
            .strip_prefix('.')
            .unwrap();
        assert_eq!(secret.len(), 22, "128 bits, six in a letter");
        letters.extend(secret.chars());
    }
    assert_eq!(letters.len(), 64);
    assert!(
        letters
            .iter()
            .all(|c| c.is_ascii_alphanumeric() || "-_".contains(*c))
    );
    assert!(!format!("{first:?} {replies:?}").contains(&first.name()[REPLY_TO.len()..]));
}

#[test]
fn reserved_names_are_those_of_replies() {
    for (name, reserved) in [
        (REPLY_TO, true),
        ("amq.rabbitmq.reply-to.abc", true),
        ("amq.rabbitmq.reply-tox", false),
        ("reply-to", false),
    ] {
        assert_eq!(Replies::is_reserved(name), reserved, "{name}");
    }
}

#[test]
fn senders_on_many_threads_lose_nothing_under_the_limit() {
    let (replies, inbox, bell) = open(u64::MAX);
    let replies = &replies;
    let name = inbox.name();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || {
                for _ in 0..1000 {
                    assert!(replies.send(name, reply(b"x")));
                }
            });
        }
        let mut taken = 0;
        while taken < 4000 {
            taken += bodies(&inbox, 7).len();
            std::thread::yield_now();
        }
    });
    assert!(inbox.is_empty() && bell.rung() > 0);
}
