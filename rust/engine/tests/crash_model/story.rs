//! What happened before a crash, and whether what is found after it can have come of that.

use std::collections::BTreeSet;

use wherry_engine::Broker;

use crate::state::{Stands, State, at_opening, observe, sorted, totals};

/// What happened, for the judge.
pub(crate) struct Story {
    pub(crate) states: Vec<State>,
    /// Whether step i (which led to state i) is one record.
    pub(crate) atomic: Vec<bool>,
    pub(crate) taken: Vec<(usize, (String, String))>,
    pub(crate) now_ns: u64,
    /// Segments are so small that the journal often has no room at the first try.
    pub(crate) crowded: bool,
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
    pub(crate) fn judge(&self, broker: &Broker, durable: usize) -> Result<State, String> {
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
