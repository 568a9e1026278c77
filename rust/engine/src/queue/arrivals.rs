//! A list in the order of arrival that anybody may leave, wherever he stands, without the others being moved: a queue
//! with tens of thousands of consumers must not cost one of them a walk along all others.
//!
//! Who leaves the middle leaves a gap. Gaps at either end go at once, and all of them when there are more gaps than
//! entries: so each costs a constant amount, and the first and the last place are never gaps.

use std::collections::VecDeque;

/// Gaps that are kept whatever the length: a short list would be swept each time.
const GAPS_KEPT: usize = 8;

pub(super) struct Arrivals<T> {
    /// By number, which grows.
    places: VecDeque<(u64, Option<T>)>,
    /// Places that are no gaps.
    count: usize,
    /// Number of the last that came; 0 is nobody's.
    last: u64,
}

impl<T> Default for Arrivals<T> {
    fn default() -> Arrivals<T> {
        Arrivals {
            // Most have one entry, and room for four would be most of what the list costs.
            places: VecDeque::with_capacity(1),
            count: 0,
            last: 0,
        }
    }
}

impl<T> Arrivals<T> {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds it at the end. Its number is what `remove` takes.
    pub(super) fn push(&mut self, entry: T) -> u64 {
        self.last += 1;
        self.places.push_back((self.last, Some(entry)));
        self.count += 1;
        self.last
    }

    /// Takes the one of this number out, if it is still there and what the caller means: a list that was dropped and made
    /// again gives the same numbers again.
    pub(super) fn remove(&mut self, number: u64, is: impl FnOnce(&T) -> bool) -> Option<T> {
        let place = self.places.binary_search_by_key(&number, |(n, _)| *n);
        let entry = self.places[place.ok()?].1.take_if(|entry| is(entry))?;
        self.count -= 1;
        self.tidy();
        Some(entry)
    }

    /// The one that has been there longest.
    pub(super) fn first(&self) -> Option<&T> {
        self.places.front().and_then(|(_, entry)| entry.as_ref())
    }

    /// Takes out the one that has been there longest.
    pub(super) fn pop_first(&mut self) -> Option<T> {
        let (_, entry) = self.places.pop_front()?;
        self.count -= 1;
        self.tidy();
        entry
    }

    /// All of them with their numbers, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let places = self.places.iter();
        places.filter_map(|(number, entry)| Some((*number, entry.as_ref()?)))
    }

    fn tidy(&mut self) {
        while self.places.front().is_some_and(|(_, e)| e.is_none()) {
            self.places.pop_front();
        }
        while self.places.back().is_some_and(|(_, e)| e.is_none()) {
            self.places.pop_back();
        }
        if self.places.len() > 2 * self.count + GAPS_KEPT {
            self.places.retain(|(_, entry)| entry.is_some());
            self.places.shrink_to(2 * self.count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::numbers;

    /// What it must equal: a vector that is searched and shifted.
    #[test]
    fn is_a_list_that_anybody_may_leave() {
        let mut numbers = numbers(7);
        let mut random = |below: u64| numbers(below as usize) as u64;
        let mut arrivals = Arrivals::default();
        let mut model: Vec<(u64, u64)> = Vec::new();
        for step in 0..20_000 {
            // Grows in one half of the time, shrinks in the other, down to nothing.
            let pushes = if step / 500 % 2 == 0 { 6 } else { 2 };
            if random(8) < pushes {
                model.push((arrivals.push(step), step));
            } else if random(3) == 0 {
                let wanted = (!model.is_empty()).then(|| model.remove(0).1);
                assert_eq!(arrivals.pop_first(), wanted);
            } else if !model.is_empty() {
                let (number, entry) = model.remove(random(model.len() as u64) as usize);
                assert_eq!(arrivals.remove(number, |_| false), None);
                assert_eq!(arrivals.remove(number, |e| *e == entry), Some(entry));
                assert_eq!(arrivals.remove(number, |_| true), None);
            }
            assert_eq!(arrivals.len(), model.len());
            assert_eq!(arrivals.first().copied(), model.first().map(|(_, e)| *e));
            assert!(arrivals.places.len() <= 2 * model.len() + GAPS_KEPT);
            if step % 100 == 0 {
                let found: Vec<_> = arrivals.iter().map(|(n, e)| (n, *e)).collect();
                assert_eq!(found, model);
            }
        }
        assert_eq!(arrivals.remove(0, |_| true), None);
    }
}
