//! Numbered places, whose numbers are used again: [`Slots`].
//!
//! A number is small and dense, so it finds its thing by one index, and fits into the token of a notice. Everything takes
//! constant time, apart from looking at all.

use std::ops::Range;

/// Things in numbered places. A number is used again when its thing was taken out: what still names it then names the next.
#[derive(Debug)]
pub struct Slots<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots {
            places: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slots<T> {
    /// The number that the next thing gets.
    pub fn next_number(&self) -> u32 {
        let fresh = self.places.len() as u32;
        self.free.last().copied().unwrap_or(fresh)
    }

    /// Puts a thing in; gives its number, which `next_number` told.
    pub fn add(&mut self, thing: T) -> u32 {
        match self.free.pop() {
            Some(number) => {
                self.places[number as usize] = Some(thing);
                number
            }
            None => {
                self.places.push(Some(thing));
                (self.places.len() - 1) as u32
            }
        }
    }

    /// The thing in a place, if there is one.
    #[inline]
    pub fn get(&self, number: u32) -> Option<&T> {
        self.places.get(number as usize)?.as_ref()
    }

    /// The same, to be changed.
    #[inline]
    pub fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.places.get_mut(number as usize)?.as_mut()
    }

    /// Takes a thing out.
    pub fn remove(&mut self, number: u32) -> Option<T> {
        let thing = self.places.get_mut(number as usize)?.take()?;
        self.free.push(number);
        Some(thing)
    }

    /// All things, by number.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().flatten()
    }

    /// The numbers that were ever given.
    pub fn numbers(&self) -> Range<u32> {
        0..self.places.len() as u32
    }

    /// Takes all things out, by number, and begins anew.
    pub fn drain(&mut self) -> impl Iterator<Item = T> + use<T> {
        std::mem::take(self).places.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_used_again_when_its_thing_is_out() {
        let mut slots = Slots::default();
        for (number, thing) in ["a", "b", "c"].into_iter().enumerate() {
            assert_eq!(slots.next_number(), number as u32);
            assert_eq!(slots.add(thing), number as u32);
        }
        assert_eq!(slots.remove(1), Some("b"));
        assert_eq!(slots.remove(1), None, "its number is not free twice");
        assert_eq!((slots.get(1), slots.get(9)), (None, None));
        assert_eq!(slots.iter().collect::<Vec<_>>(), [&"a", &"c"]);
        assert_eq!(slots.numbers(), 0..3);
        assert_eq!((slots.next_number(), slots.add("d")), (1, 1));
        assert_eq!((slots.next_number(), slots.add("e")), (3, 3));
        *slots.get_mut(3).unwrap() = "f";
        assert_eq!(slots.drain().collect::<Vec<_>>(), ["a", "d", "c", "f"]);
        assert_eq!((slots.next_number(), slots.iter().count()), (0, 0));
    }
}
