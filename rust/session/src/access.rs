//! Who may do what: the table of users and permissions, and what one session keeps of it.
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

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use hashbrown::{Equivalent, HashMap};
use parking_lot::Mutex;

use crate::failure::{Failure, FailureKind};
use crate::pattern::{Pattern, expand, has_variables};

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

/// Limits of one user. None: the server's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserLimits {
    /// Open connections of the user.
    pub connections_max: Option<u64>,
    /// Open channels over all connections of the user.
    pub channels_max: Option<u64>,
}

/// Limits of one virtual host. None: the server's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VirtualHostLimits {
    /// Open connections to it.
    pub connections_max: Option<u64>,
    /// Queues in it.
    pub queues_max: Option<u64>,
}

#[derive(Debug)]
struct Permission {
    configure: Pattern,
    write: Pattern,
    read: Pattern,
}

impl Permission {
    fn of(&self, action: Action) -> &Pattern {
        match action {
            Action::Configure => &self.configure,
            Action::Write => &self.write,
            Action::Read => &self.read,
        }
    }
}

/// A pattern of a topic permission; with variables it is compiled for each session.
#[derive(Debug)]
enum TopicPattern {
    Fixed(Pattern),
    Variable(String),
}

impl TopicPattern {
    fn new(pattern: &str) -> Result<TopicPattern, String> {
        if has_variables(pattern) {
            Pattern::compile(&expand(pattern, "user", "/"))?;
            return Ok(TopicPattern::Variable(pattern.to_owned()));
        }
        Pattern::compile(pattern).map(TopicPattern::Fixed)
    }

    /// None: with these names it cannot be compiled, and so grants nothing.
    fn for_session(&self, user: &str, virtual_host: &str) -> Option<Pattern> {
        match self {
            TopicPattern::Fixed(pattern) => Some(pattern.clone()),
            TopicPattern::Variable(text) => {
                Pattern::compile(&expand(text, user, virtual_host)).ok()
            }
        }
    }
}

#[derive(Debug)]
struct TopicPermission {
    write: TopicPattern,
    read: TopicPattern,
}

#[derive(Debug, Default)]
struct User {
    tags: Vec<String>,
    limits: UserLimits,
    /// By virtual host.
    permissions: HashMap<String, Permission, RandomState>,
    /// By virtual host, then by exchange.
    topics: HashMap<String, HashMap<String, TopicPermission, RandomState>, RandomState>,
}

/// All users with their permissions, and the limits of virtual hosts. Passwords are elsewhere.
#[derive(Debug, Default)]
pub struct AccessTable {
    users: HashMap<String, User, RandomState>,
    virtual_hosts: HashMap<String, VirtualHostLimits, RandomState>,
    /// Given when it is put in place; grows with each.
    version: u64,
}

/// Collects an [`AccessTable`]. A later entry replaces an earlier one of the same names.
#[derive(Debug, Default)]
pub struct AccessTableBuilder {
    table: AccessTable,
}

impl AccessTableBuilder {
    /// A user with its tags, or other tags for one that is there.
    pub fn user<T: Into<String>>(
        &mut self,
        name: &str,
        tags: impl IntoIterator<Item = T>,
    ) -> &mut Self {
        self.entry(name).tags = tags.into_iter().map(Into::into).collect();
        self
    }

    fn entry(&mut self, user: &str) -> &mut User {
        self.table.users.entry_ref(user).or_default()
    }

    /// What a user may do in a virtual host. A user that was not named before is added without tags.
    ///
    /// # Errors
    /// Which pattern cannot be used, and why; nothing is added then.
    pub fn permission(
        &mut self,
        user: &str,
        virtual_host: &str,
        configure: &str,
        write: &str,
        read: &str,
    ) -> Result<&mut Self, String> {
        let permission = Permission {
            configure: Pattern::compile(configure)?,
            write: Pattern::compile(write)?,
            read: Pattern::compile(read)?,
        };
        self.entry(user)
            .permissions
            .insert(virtual_host.to_owned(), permission);
        Ok(self)
    }

    /// Which routing keys a user may publish to (`write`) and bind from (`read`) a topic exchange. `{username}` and
    /// `{vhost}` stand for the session's, taken literally.
    ///
    /// # Errors
    /// Which pattern cannot be used, and why; nothing is added then.
    pub fn topic_permission(
        &mut self,
        user: &str,
        virtual_host: &str,
        exchange: &str,
        write: &str,
        read: &str,
    ) -> Result<&mut Self, String> {
        let permission = TopicPermission {
            write: TopicPattern::new(write)?,
            read: TopicPattern::new(read)?,
        };
        self.entry(user)
            .topics
            .entry_ref(virtual_host)
            .or_default()
            .insert(exchange.to_owned(), permission);
        Ok(self)
    }

    /// Limits of a user.
    pub fn user_limits(&mut self, user: &str, limits: UserLimits) -> &mut Self {
        self.entry(user).limits = limits;
        self
    }

    /// Limits of a virtual host.
    pub fn virtual_host_limits(
        &mut self,
        virtual_host: &str,
        limits: VirtualHostLimits,
    ) -> &mut Self {
        self.table
            .virtual_hosts
            .insert(virtual_host.to_owned(), limits);
        self
    }

    /// The table.
    pub fn build(self) -> AccessTable {
        self.table
    }
}

impl AccessTable {
    /// An empty table to fill.
    pub fn builder() -> AccessTableBuilder {
        AccessTableBuilder::default()
    }

    /// Whether the user is in the table.
    pub fn knows(&self, user: &str) -> bool {
        self.users.contains_key(user)
    }

    /// Whether a user has any permission in a virtual host, which is what opening it takes.
    pub fn may_enter(&self, user: &str, virtual_host: &str) -> bool {
        self.users
            .get(user)
            .is_some_and(|user| user.permissions.contains_key(virtual_host))
    }

    /// The tags of a user.
    pub fn tags(&self, user: &str) -> &[String] {
        self.users.get(user).map_or(&[], |user| &user.tags)
    }

    pub(crate) fn limits_of_user(&self, user: &str) -> UserLimits {
        self.users
            .get(user)
            .map_or_else(UserLimits::default, |user| user.limits)
    }

    pub(crate) fn limits_of_virtual_host(&self, virtual_host: &str) -> VirtualHostLimits {
        self.virtual_hosts
            .get(virtual_host)
            .copied()
            .unwrap_or_default()
    }

    fn allows(&self, user: &str, virtual_host: &str, action: Action, name: &str) -> bool {
        self.users
            .get(user)
            .and_then(|user| user.permissions.get(virtual_host))
            .is_some_and(|permission| permission.of(action).matches(name))
    }
}

/// The table in force.
#[derive(Debug)]
pub(crate) struct AccessCell {
    table: ArcSwap<AccessTable>,
    /// Version of the table. Release after the table is in place, Acquire by who then loads the table: who sees a
    /// version sees its table or a later one.
    version: AtomicU64,
    /// Orders replacements, so that versions grow with them.
    replacing: Mutex<()>,
}

impl AccessCell {
    pub(crate) fn new() -> AccessCell {
        AccessCell {
            table: ArcSwap::from_pointee(AccessTable::default()),
            version: AtomicU64::new(0),
            replacing: Mutex::new(()),
        }
    }

    pub(crate) fn load(&self) -> Arc<AccessTable> {
        self.table.load_full()
    }

    pub(crate) fn set(&self, mut table: AccessTable) {
        let _one = self.replacing.lock();
        // Relaxed: only written under the lock.
        table.version = self.version.load(Ordering::Relaxed) + 1;
        let version = table.version;
        self.table.store(Arc::new(table));
        self.version.store(version, Ordering::Release);
    }
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

/// A session's own copy of a topic permission. None inside: the pattern cannot be compiled with its names.
struct Topic {
    write: Option<Pattern>,
    read: Option<Pattern>,
}

#[derive(Default)]
struct Answers {
    /// Of the table that they are from.
    version: u64,
    answers: HashMap<Asked, bool, RandomState>,
    /// By exchange; none where nothing is narrowed.
    topics: HashMap<Box<str>, Option<Topic>, RandomState>,
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
        self.cell.version.load(Ordering::Acquire)
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
        answers.version = self.cell.load().version;
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
            let topic = self.topic(exchange);
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

    fn topic(&self, exchange: &str) -> Option<Topic> {
        let table = self.cell.load();
        let permission = table
            .users
            .get(&*self.user)?
            .topics
            .get(&*self.virtual_host)?
            .get(exchange)?;
        Some(Topic {
            write: permission.write.for_session(&self.user, &self.virtual_host),
            read: permission.read.for_session(&self.user, &self.virtual_host),
        })
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
