//! Who may do what: the table of users and permissions (`table.rs`), and what one session keeps of it (here).
//!
//! Rules and texts are RabbitMQ's. A permission belongs to a user and a virtual host and has three patterns: configure
//! (declare, delete), write (publish, bind to), read (consume, get, bind from, purge). Topic permissions narrow what may
//! be published to and bound from a topic exchange by routing key; where none is set for the exchange, nothing is
//! narrowed.
//!
//! A table never changes: [`FrontEnd::set_access`](crate::FrontEnd::set_access) puts another in its place, and each
//! session sees it at its next check. [`Access`] may be used from any thread; its lock is held for a lookup.
//!
//! Not promised: that a consumer that is running when its permission goes is stopped; sessions decide that.

mod table;

pub(crate) use table::AccessCell;
pub use table::{AccessTable, AccessTableBuilder, UserLimits, VirtualHostLimits};

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::{Equivalent, HashMap};
use parking_lot::Mutex;
use wherry_engine::QueueOptions;

use crate::failure::{Failure, FailureKind};

/// Answers that one session keeps. A program uses some dozens of names; a thousand short ones are some 64 KiB, and who
/// uses more pays for a pattern match again.
pub const ANSWERS_MAX: usize = 1024;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Declare or delete.
    Configure,
    /// Publish, or bind to.
    Write,
    /// Consume, get, purge, or bind from.
    Read,
}

/// To what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource<'a> {
    /// An exchange by name; the default exchange (empty name) is checked as `amq.default`.
    Exchange(&'a str),
    /// A queue by name.
    Queue(&'a str),
}

#[derive(PartialEq, Eq, Hash)]
struct Question<'a> {
    action: Action,
    resource: Resource<'a>,
}

/// An owned [`Question`]; hashes as one.
struct Asked {
    action: Action,
    queue: bool,
    name: Box<str>,
}

impl Asked {
    fn question(&self) -> Question<'_> {
        Question {
            action: self.action,
            resource: if self.queue {
                Resource::Queue(&self.name)
            } else {
                Resource::Exchange(&self.name)
            },
        }
    }
}

impl PartialEq for Asked {
    fn eq(&self, other: &Asked) -> bool {
        self.question() == other.question()
    }
}

impl Eq for Asked {}

impl std::hash::Hash for Asked {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.question().hash(state);
    }
}

impl Equivalent<Asked> for Question<'_> {
    fn equivalent(&self, asked: &Asked) -> bool {
        *self == asked.question()
    }
}

#[derive(Default)]
struct Answers {
    /// Of the table that they are from.
    version: u64,
    answers: HashMap<Asked, bool, RandomState>,
    /// By exchange; none where nothing is narrowed.
    topics: HashMap<Box<str>, Option<table::Topic>, RandomState>,
}

/// What one session may do, after it was authenticated and has opened its virtual host.
pub struct Access {
    cell: Arc<AccessCell>,
    user: Box<str>,
    virtual_host: Box<str>,
    answers: Mutex<Answers>,
}

impl Access {
    pub(crate) fn new(cell: Arc<AccessCell>, user: &str, virtual_host: &str) -> Access {
        Access {
            cell,
            user: user.into(),
            virtual_host: virtual_host.into(),
            answers: Mutex::default(),
        }
    }

    /// The user.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The virtual host.
    pub fn virtual_host(&self) -> &str {
        &self.virtual_host
    }

    /// Changes when the table is replaced. For answers kept outside: read it *before* the check whose answer is kept.
    #[inline]
    pub fn version(&self) -> u64 {
        self.cell.version()
    }

    /// Whether the user has a tag now.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.cell.load().tags(&self.user).iter().any(|t| t == tag)
    }

    /// Whether the session could enter its virtual host still.
    pub fn may_stay(&self) -> bool {
        self.cell.load().may_enter(&self.user, &self.virtual_host)
    }

    fn refresh(&self, answers: &mut Answers) {
        if answers.version == self.version() {
            return;
        }
        answers.answers.clear();
        answers.topics.clear();
        answers.version = self.cell.load().version();
    }

    /// Whether the user may do this to that.
    ///
    /// # Errors
    /// [`FailureKind::AccessRefused`] in RabbitMQ's words.
    pub fn check(&self, action: Action, resource: Resource<'_>) -> Result<(), Failure> {
        let resource = match resource {
            Resource::Exchange("") => Resource::Exchange("amq.default"),
            other => other,
        };
        let question = Question { action, resource };
        let mut answers = self.answers.lock();
        self.refresh(&mut answers);
        let allowed = match answers.answers.get(&question) {
            Some(&allowed) => allowed,
            None => {
                let (queue, name) = match resource {
                    Resource::Queue(name) => (true, name),
                    Resource::Exchange(name) => (false, name),
                };
                let allowed = self
                    .cell
                    .load()
                    .allows(&self.user, &self.virtual_host, action, name);
                if answers.answers.len() >= ANSWERS_MAX {
                    answers.answers.clear();
                }
                let asked = Asked {
                    action,
                    queue,
                    name: name.into(),
                };
                answers.answers.insert(asked, allowed);
                allowed
            }
        };
        if allowed {
            return Ok(());
        }
        Err(self.refused(resource))
    }

    /// What a new queue needs beyond configure: its dead letters may go only where the user could publish them, and a
    /// queue for them is made only where the user could make it.
    ///
    /// # Errors
    /// [`FailureKind::AccessRefused`] in RabbitMQ's words.
    pub fn check_dead_letters(
        &self,
        name: &str,
        options: &QueueOptions,
        exists: impl FnOnce(&str) -> bool,
    ) -> Result<(), Failure> {
        if let Some(exchange) = &options.dead_letter_exchange {
            self.check(Action::Read, Resource::Queue(name))?;
            self.check(Action::Write, Resource::Exchange(exchange))?;
        }
        if let Some(queue) = options.retry.as_ref().and_then(|r| r.dead_letter.as_ref()) {
            self.check(Action::Read, Resource::Queue(name))?;
            self.check(Action::Write, Resource::Exchange(""))?;
            if !exists(queue) {
                self.check(Action::Configure, Resource::Queue(queue))?;
            }
        }
        Ok(())
    }

    #[cold]
    fn refused(&self, resource: Resource<'_>) -> Failure {
        let (kind, name) = match resource {
            Resource::Exchange(name) => ("exchange", name),
            Resource::Queue(name) => ("queue", name),
        };
        Failure::new(
            FailureKind::AccessRefused,
            format!(
                "access to {kind} '{name}' in vhost '{}' refused for user '{}'",
                self.virtual_host, self.user
            ),
        )
    }

    /// Whether the user may publish to a topic exchange with this routing key ([`Action::Write`]), or bind from it with
    /// this binding key ([`Action::Read`]). To be asked after [`Access::check`], and for topic exchanges only.
    ///
    /// # Errors
    /// [`FailureKind::AccessRefused`] in RabbitMQ's words.
    pub fn check_topic(
        &self,
        action: Action,
        exchange: &str,
        routing_key: &str,
    ) -> Result<(), Failure> {
        let mut answers = self.answers.lock();
        self.refresh(&mut answers);
        if !answers.topics.contains_key(exchange) {
            if answers.topics.len() >= ANSWERS_MAX {
                answers.topics.clear();
            }
            let table = self.cell.load();
            let topic = table.topic(&self.user, &self.virtual_host, exchange);
            answers.topics.insert(exchange.into(), topic);
        }
        let allowed = match &answers.topics[exchange] {
            None => true,
            Some(topic) => {
                let pattern = match action {
                    Action::Write => topic.write.as_ref(),
                    Action::Read => topic.read.as_ref(),
                    Action::Configure => return Ok(()), // there is no such topic permission
                };
                pattern.is_some_and(|pattern| pattern.matches(routing_key))
            }
        };
        if allowed {
            return Ok(());
        }
        Err(Failure::new(
            FailureKind::AccessRefused,
            format!(
                "access to topic '{routing_key}' in exchange '{exchange}' in vhost '{}' refused for user '{}'",
                self.virtual_host, self.user
            ),
        ))
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access")
            .field("user", &self.user)
            .field("virtual_host", &self.virtual_host)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(fill: impl FnOnce(&mut AccessTableBuilder)) -> (Arc<AccessCell>, Access) {
        let mut builder = AccessTable::builder();
        fill(&mut builder);
        let cell = Arc::new(AccessCell::new());
        cell.set(builder.build());
        (cell.clone(), Access::new(cell, "u", "/"))
    }

    fn queue(access: &Access, name: &str) -> bool {
        access.check(Action::Read, Resource::Queue(name)).is_ok()
    }

    #[test]
    fn what_is_kept_is_bounded_and_stays_right() {
        let (_, access) = session(|t| {
            t.permission("u", "/", "", "", "7$").unwrap();
            t.topic_permission("u", "/", "e7", "^$", "^$").unwrap();
        });
        for n in 0..3 * ANSWERS_MAX {
            assert_eq!(queue(&access, &format!("q{n}")), n % 10 == 7);
            let topic = access.check_topic(Action::Write, &format!("e{n}"), "k");
            assert_eq!(topic.is_ok(), n != 7);
            let kept = access.answers.lock();
            assert!(kept.answers.len() <= ANSWERS_MAX && kept.topics.len() <= ANSWERS_MAX);
        }
        assert!(!queue(&access, "q0") && queue(&access, "q7"));
    }

    #[test]
    fn another_table_counts_at_the_next_check() {
        let (cell, access) = session(|t| {
            t.permission("u", "/", "", "", "^a").unwrap();
        });
        let before = access.version();
        assert!(queue(&access, "a") && !queue(&access, "b"));
        assert!(access.check_topic(Action::Read, "e", "k").is_ok());
        let mut other = AccessTable::builder();
        other.permission("u", "/", "", "", "^b").unwrap();
        other.topic_permission("u", "/", "e", "", "").unwrap();
        cell.set(other.build());
        assert_ne!(access.version(), before);
        assert!(!queue(&access, "a") && queue(&access, "b"));
        assert!(access.check_topic(Action::Read, "e", "k").is_err());
        cell.set(AccessTable::default());
        assert!(!queue(&access, "b") && !access.may_stay());
    }

    fn compiled(f: impl FnOnce()) -> usize {
        let before = crate::pattern::COMPILED.get();
        f();
        crate::pattern::COMPILED.get() - before
    }

    #[test]
    fn what_stays_the_same_is_not_compiled_again() {
        let fill = |t: &mut AccessTableBuilder, users: usize, own: &str| {
            for n in 0..users {
                let name = format!("u{n}");
                t.permission(&name, "/", "^own", "^own", &format!("^{own}{n}$"))
                    .unwrap();
                t.topic_permission(&name, "/", "e", "^{username}$", &format!("^{n}$"))
                    .unwrap();
            }
        };
        let mut first = AccessTable::builder();
        let count = compiled(|| fill(&mut first, 10, "q"));
        assert_eq!(count, 1 + 10 + 1 + 10);
        let first = Arc::new(first.build());
        let mut second = AccessTable::builder_after(first.clone());
        assert_eq!(compiled(|| fill(&mut second, 11, "q")), 1 + 1 + 1 + 1);
        let mut third = AccessTable::builder_after(Arc::new(second.build()));
        // What is changed is changed.
        assert_eq!(compiled(|| fill(&mut third, 11, "r")), 11);
        assert_eq!(Arc::strong_count(&first), 1, "it is not kept");
        let cell = Arc::new(AccessCell::new());
        cell.set(third.build());
        for n in 0..11 {
            let access = Access::new(cell.clone(), &format!("u{n}"), "/");
            assert!(queue(&access, &format!("r{n}")) && !queue(&access, &format!("q{n}")));
            let may = |action, key: &str| access.check_topic(action, "e", key).is_ok();
            assert!(may(Action::Read, &n.to_string()) && may(Action::Write, &format!("u{n}")));
            assert!(!may(Action::Read, "11") && !may(Action::Write, "u11"));
        }
    }

    #[test]
    fn answers_of_the_same_name_are_kept_apart() {
        let (_, access) = session(|t| {
            t.permission("u", "/", "^x$", "", ".*").unwrap();
        });
        for _ in 0..2 {
            assert!(
                access
                    .check(Action::Configure, Resource::Queue("x"))
                    .is_ok()
            );
            assert!(access.check(Action::Write, Resource::Queue("x")).is_err());
            assert!(access.check(Action::Read, Resource::Exchange("x")).is_ok());
            assert!(
                access
                    .check(Action::Configure, Resource::Exchange("y"))
                    .is_err()
            );
        }
    }
}
