//! Policies: rules that give settings to the queues and exchanges whose names match, those that are there and those to
//! come, whatever their declarations say.
//!
//! The rules are RabbitMQ's. Of the policies that match a queue or exchange the one with the highest priority acts,
//! alone; beside it, of the operator policies the one with the highest priority. Where both have a number the lower one
//! counts. What comes out meets the declaration: of two numbers the lower one counts, of other settings the declared one
//! (`effective.rs`). A policy with a setting that a type of queues does not know does not match queues of that type.
//! Among equal priorities the first by name acts; RabbitMQ takes any.
//!
//! A change is a record of the journal, made under the topology lock as declarations are (vhost/policies.rs), so that a
//! queue is in force of exactly the policies that were set before it. What is in force for a queue is computed then, and
//! kept in it (queue/settings.rs): publishers and consumers do not come here.

mod definition;
mod effective;

use std::sync::Arc;

use crate::error::Error;
use crate::options::{ExchangeOptions, QueueOptions, check_name};
use crate::pattern::Pattern;
use crate::table::{Table, Value};
pub(crate) use definition::Settings;
pub(crate) use effective::{AlternateExchange, InForce};

/// Policies of one virtual host. Each declaration looks at all of them; public configurations have a dozen.
pub const POLICIES_MAX: usize = 1000;

/// Bytes of one definition. The longest possible one with names of 255 bytes has a tenth.
pub const POLICY_DEFINITION_BYTES_MAX: usize = 64 << 10;

/// What a policy acts on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppliesTo {
    /// Queues of every type, and exchanges.
    #[default]
    All,
    /// Queues of every type.
    Queues,
    /// Queues that were not declared as quorum queues.
    ClassicQueues,
    /// Queues that were.
    QuorumQueues,
    /// Streams, which there are none of.
    Streams,
    /// Exchanges.
    Exchanges,
}

impl AppliesTo {
    const WORDS: [(AppliesTo, &str); 6] = [
        (AppliesTo::All, "all"),
        (AppliesTo::Queues, "queues"),
        (AppliesTo::ClassicQueues, "classic_queues"),
        (AppliesTo::QuorumQueues, "quorum_queues"),
        (AppliesTo::Streams, "streams"),
        (AppliesTo::Exchanges, "exchanges"),
    ];

    /// RabbitMQ's word for it.
    pub fn as_str(self) -> &'static str {
        let found = Self::WORDS.iter().find(|(kind, _)| *kind == self);
        found.map_or("all", |(_, word)| word)
    }

    fn is_for(self, kind: Kind) -> bool {
        match self {
            AppliesTo::All => true,
            AppliesTo::Queues => kind != Kind::Exchange,
            AppliesTo::ClassicQueues => kind == Kind::Classic,
            AppliesTo::QuorumQueues => kind == Kind::Quorum,
            AppliesTo::Exchanges => kind == Kind::Exchange,
            AppliesTo::Streams => false,
        }
    }
}

impl std::str::FromStr for AppliesTo {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self, Error> {
        let found = Self::WORDS.iter().find(|(_, known)| *known == word);
        found.map(|(kind, _)| *kind).ok_or_else(|| {
            Error::InvalidArgument(format!(
                "apply-to '{word}': use queues, classic_queues, quorum_queues, streams, exchanges or all"
            ))
        })
    }
}

/// A policy as somebody sets it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewPolicy {
    /// Its name, one of its kind in a virtual host.
    pub name: String,
    /// Whether it is an operator's: a limit beside those that users set.
    pub operator: bool,
    /// A regular expression that is searched for in names.
    pub pattern: String,
    /// What it acts on.
    pub applies_to: AppliesTo,
    /// Of those that match, the highest one acts.
    pub priority: i64,
    /// The settings, by RabbitMQ's names, times in milliseconds.
    pub definition: Table,
}

/// A policy that is set.
#[derive(Debug)]
pub struct Policy {
    /// Never used twice; it names the policy in the journal.
    pub(crate) id: u32,
    new: NewPolicy,
    pattern: Pattern,
    settings: Settings,
}

/// What a policy may match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Classic,
    Quorum,
    Exchange,
}

impl Kind {
    fn of(options: &QueueOptions) -> Kind {
        if options.is_quorum() {
            Kind::Quorum
        } else {
            Kind::Classic
        }
    }
}

impl Policy {
    pub(crate) fn new(id: u32, new: NewPolicy) -> Result<Policy, Error> {
        check_name("policy name", &new.name)?;
        if new.name.is_empty() {
            return Err(Error::InvalidArgument(
                "policy name: it cannot be empty".into(),
            ));
        }
        // As RabbitMQ has it, and other than in permissions: nothing to search for is found everywhere.
        let pattern = match new.pattern.as_str() {
            "" => Pattern::Everything,
            pattern => Pattern::compile(pattern).map_err(Error::InvalidArgument)?,
        };
        let settings = Settings::read(&new.definition, new.operator)?;
        Ok(Policy {
            id,
            new,
            pattern,
            settings,
        })
    }

    /// As it was set.
    pub fn as_set(&self) -> &NewPolicy {
        &self.new
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.new.name
    }

    /// What of its definition is taken and has no effect here, or not on everything that its pattern matches; a line each.
    pub fn notes(&self) -> Vec<String> {
        definition::notes(&self.new.definition)
    }

    fn matches(&self, kind: Kind, name: &str) -> bool {
        self.new.applies_to.is_for(kind)
            && self.settings.are_for(kind)
            && self.pattern.matches(name)
    }

    /// As written in the journal, beside its name.
    pub(crate) fn to_table(&self) -> Table {
        let mut table = Table::default();
        let text = |text: &str| Value::Str(text.into());
        table.insert("operator", Value::Bool(self.new.operator));
        table.insert("pattern", text(&self.new.pattern));
        table.insert("apply-to", text(self.new.applies_to.as_str()));
        table.insert("priority", Value::I64(self.new.priority));
        table.insert("definition", Value::Table(self.new.definition.clone()));
        table
    }

    pub(crate) fn from_table(id: u32, name: &str, table: &Table) -> Result<Policy, Error> {
        let text = |name: &str| table.get(name).and_then(Value::as_str).unwrap_or_default();
        let priority = table.get("priority").and_then(Value::as_integer);
        let new = NewPolicy {
            name: name.into(),
            operator: matches!(table.get("operator"), Some(Value::Bool(true))),
            pattern: text("pattern").into(),
            applies_to: text("apply-to").parse()?,
            priority: priority.and_then(|n| n.try_into().ok()).unwrap_or_default(),
            definition: match table.get("definition") {
                Some(Value::Table(definition)) => definition.clone(),
                _ => Table::default(),
            },
        };
        Policy::new(id, new)
    }
}

/// The policies of one virtual host.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    /// Those that act first stand first.
    list: Vec<Arc<Policy>>,
    /// What was computed last: a million queues declared alike share it.
    last: Option<(Arc<QueueOptions>, Arc<InForce>)>,
}

impl Policies {
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn list(&self) -> &[Arc<Policy>] {
        &self.list
    }

    pub(crate) fn get(&self, operator: bool, name: &str) -> Option<&Arc<Policy>> {
        let mut list = self.list.iter();
        list.find(|one| one.new.operator == operator && one.new.name == name)
    }

    /// Takes a policy in, in place of the one of its name.
    pub(crate) fn set(&mut self, policy: Arc<Policy>) {
        self.remove(policy.new.operator, &policy.new.name);
        self.list.push(policy);
        self.list.sort_by(|a, b| {
            (b.new.priority.cmp(&a.new.priority)).then_with(|| a.new.name.cmp(&b.new.name))
        });
    }

    pub(crate) fn remove(&mut self, operator: bool, name: &str) {
        self.list
            .retain(|one| one.new.operator != operator || one.new.name != name);
        self.last = None;
    }

    fn acting(&self, operator: bool, kind: Kind, name: &str) -> Option<&Arc<Policy>> {
        let mut list = self.list.iter();
        list.find(|one| one.new.operator == operator && one.matches(kind, name))
    }

    /// What is in force for a queue; none if no policy matches.
    pub(crate) fn for_queue(
        &mut self,
        name: &str,
        declared: &Arc<QueueOptions>,
    ) -> Option<Arc<InForce>> {
        if self.is_empty() {
            return None;
        }
        let kind = Kind::of(declared);
        let policy = self.acting(false, kind, name).cloned();
        let operator = self.acting(true, kind, name).cloned();
        if policy.is_none() && operator.is_none() {
            return None;
        }
        if let Some((options, in_force)) = &self.last
            && Arc::ptr_eq(options, declared)
            && in_force.is_of(policy.as_ref(), operator.as_ref())
        {
            return Some(in_force.clone());
        }
        let in_force = Arc::new(InForce::new(declared, policy, operator));
        self.last = Some((declared.clone(), in_force.clone()));
        Some(in_force)
    }

    /// What is in force for an exchange; none if no policy matches.
    pub(crate) fn for_exchange(
        &self,
        name: &str,
        declared: &ExchangeOptions,
    ) -> Option<AlternateExchange> {
        // The default exchange drops nothing that an alternate exchange could take: as in RabbitMQ.
        let policy = self.acting(false, Kind::Exchange, name)?;
        (!name.is_empty()).then(|| AlternateExchange::new(declared, policy))
    }
}
