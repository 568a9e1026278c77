//! What is to be said once something is on stable storage: [`AwaitingDisk`].

use std::collections::VecDeque;

use wherry_engine::Ticket;

/// Things that wait for the disk, in order of their tickets; those of one ticket in the order in which they came. Tickets
/// nearly always come in order, and then each step takes constant time.
#[derive(Debug)]
pub struct AwaitingDisk<T>(VecDeque<(Ticket, T)>);

impl<T> Default for AwaitingDisk<T> {
    fn default() -> Self {
        AwaitingDisk(VecDeque::new())
    }
}

impl<T> AwaitingDisk<T> {
    /// Something waits until `ticket` is durable.
    #[inline]
    pub fn push(&mut self, ticket: Ticket, thing: T) {
        if self.0.back().is_none_or(|&(last, _)| last <= ticket) {
            self.0.push_back((ticket, thing));
        } else {
            let place = self.0.partition_point(|&(other, _)| other <= ticket);
            self.0.insert(place, (ticket, thing));
        }
    }

    /// Takes out the first thing, if it waits for nothing behind `durable`.
    #[inline]
    pub fn pop(&mut self, durable: Ticket) -> Option<T> {
        if self.0.front()?.0 > durable {
            return None;
        }
        self.0.pop_front().map(|(_, thing)| thing)
    }

    /// Takes out the first thing, whatever it waits for.
    pub fn pop_any(&mut self) -> Option<T> {
        self.0.pop_front().map(|(_, thing)| thing)
    }

    /// Things that wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Gives the memory of a burst back when three quarters of it, and of `kept` things, are unused, so that it is moved
    /// rarely.
    #[inline]
    pub fn shrink(&mut self, kept: usize) {
        if self.0.capacity() > 4 * (self.0.len() + kept) {
            self.0.shrink_to(2 * self.0.len());
        }
    }

    /// Bytes on the heap, about; without what the things themselves have there.
    pub fn heap_bytes(&self) -> usize {
        self.0.capacity() * size_of::<(Ticket, T)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_come_out_in_order_of_tickets() {
        let mut waiting = AwaitingDisk::default();
        for (ticket, thing) in [(5, 'a'), (9, 'd'), (7, 'b'), (9, 'e'), (7, 'c')] {
            waiting.push(Ticket(ticket), thing);
        }
        assert_eq!(waiting.pop(Ticket(4)), None);
        let mut out = Vec::new();
        while let Some(thing) = waiting.pop(Ticket(7)) {
            out.push(thing);
        }
        assert_eq!((out, waiting.len()), (vec!['a', 'b', 'c'], 2));
        assert_eq!(waiting.pop_any(), Some('d'));
        waiting.clear();
        assert!(waiting.is_empty() && waiting.pop_any().is_none());
    }

    #[test]
    fn memory_of_a_burst_is_given_back() {
        let mut waiting = AwaitingDisk::default();
        for ticket in 0..1000 {
            waiting.push(Ticket(ticket), ());
        }
        let burst = waiting.heap_bytes();
        waiting.shrink(10);
        assert_eq!(waiting.heap_bytes(), burst, "it is in use");
        while waiting.pop(Ticket(990)).is_some() {}
        waiting.shrink(10);
        assert!(
            waiting.heap_bytes() < burst / 10,
            "{}",
            waiting.heap_bytes()
        );
        assert_eq!(waiting.len(), 9);
    }
}
