//! Users, permissions and limits as one immutable table, and the place where the table in force stands.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;

use super::Action;
use crate::pattern::{Pattern, compile, expand, has_variables};

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
#[derive(Clone, Debug)]
enum TopicPattern {
    Fixed(Pattern),
    Variable(String),
}

impl TopicPattern {
    /// None: with these names it cannot be compiled, and so grants nothing.
    fn for_session(&self, user: &str, virtual_host: &str) -> Option<Pattern> {
        match self {
            TopicPattern::Fixed(pattern) => Some(pattern.clone()),
            TopicPattern::Variable(text) => compile(&expand(text, user, virtual_host)).ok(),
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

/// A session's own copy of a topic permission. None inside: the pattern cannot be compiled with its names.
pub(super) struct Topic {
    pub(super) write: Option<Pattern>,
    pub(super) read: Option<Pattern>,
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
///
/// To compile a pattern takes a hundred times as long as all else that there is to do for a user (0.2 ms), and a new user
/// changes nothing for the others: what a user had in the table before, and what others have in this one, is taken from
/// there.
#[derive(Debug, Default)]
pub struct AccessTableBuilder {
    table: AccessTable,
    before: Arc<AccessTable>,
    /// Compiled for this table, by their texts.
    compiled: HashMap<String, Pattern, RandomState>,
    /// Texts of topic permissions with variables, which were found to be right.
    checked: HashSet<String, RandomState>,
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

    /// The pattern; `known` is what stood in its place before.
    fn pattern(&mut self, text: &str, known: Option<&Pattern>) -> Result<Pattern, String> {
        if let Some(known) = known.filter(|known| known.is(text)) {
            return Ok(known.clone());
        }
        if let Some(pattern) = self.compiled.get(text) {
            return Ok(pattern.clone());
        }
        let pattern = compile(text)?;
        self.compiled.insert(text.to_owned(), pattern.clone());
        Ok(pattern)
    }

    fn topic_pattern(
        &mut self,
        text: &str,
        known: Option<&TopicPattern>,
    ) -> Result<TopicPattern, String> {
        if !has_variables(text) {
            let known = known.and_then(|known| match known {
                TopicPattern::Fixed(pattern) => Some(pattern),
                TopicPattern::Variable(_) => None,
            });
            return self.pattern(text, known).map(TopicPattern::Fixed);
        }
        let was_right = known
            .is_some_and(|known| matches!(known, TopicPattern::Variable(before) if before == text));
        if !was_right && !self.checked.contains(text) {
            compile(&expand(text, "user", "/"))?;
            self.checked.insert(text.to_owned());
        }
        Ok(TopicPattern::Variable(text.to_owned()))
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
        let before = Arc::clone(&self.before);
        let known = before
            .users
            .get(user)
            .and_then(|user| user.permissions.get(virtual_host));
        let permission = Permission {
            configure: self.pattern(configure, known.map(|known| &known.configure))?,
            write: self.pattern(write, known.map(|known| &known.write))?,
            read: self.pattern(read, known.map(|known| &known.read))?,
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
        let before = Arc::clone(&self.before);
        let known = before
            .users
            .get(user)
            .and_then(|user| user.topics.get(virtual_host)?.get(exchange));
        let permission = TopicPermission {
            write: self.topic_pattern(write, known.map(|known| &known.write))?,
            read: self.topic_pattern(read, known.map(|known| &known.read))?,
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

    /// An empty table to fill, which takes from another one what it has in common with it.
    pub fn builder_after(before: Arc<AccessTable>) -> AccessTableBuilder {
        AccessTableBuilder {
            before,
            ..AccessTableBuilder::default()
        }
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

    pub(super) fn allows(
        &self,
        user: &str,
        virtual_host: &str,
        action: Action,
        name: &str,
    ) -> bool {
        self.users
            .get(user)
            .and_then(|user| user.permissions.get(virtual_host))
            .is_some_and(|permission| permission.of(action).matches(name))
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The topic permission for an exchange; none where nothing is narrowed.
    pub(super) fn topic(&self, user: &str, virtual_host: &str, exchange: &str) -> Option<Topic> {
        let permission = self
            .users
            .get(user)?
            .topics
            .get(virtual_host)?
            .get(exchange)?;
        Some(Topic {
            write: permission.write.for_session(user, virtual_host),
            read: permission.read.for_session(user, virtual_host),
        })
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

    /// Version of the table; who sees one sees its table or a later one.
    #[inline]
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
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
