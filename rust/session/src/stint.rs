//! How much of a client's work is done before others have their turn: [`Stint`].

use crate::pause::Pause;

/// Requests that are worked off in one go, of those that may take long: what declares, binds and deletes costs what is
/// there already, up to some milliseconds, and thousands of them fit into one read. A server may ask for output several
/// times before it turns to others, and each time as many more are done. Publishes and acknowledgements do not count:
/// their cost is bounded by their bytes.
pub const SLOW_REQUESTS_PER_STINT: u32 = 8;

/// Counts the slow requests of a session since others had their turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stint {
    slow: u32,
}

impl Stint {
    /// A slow request is worked off. After [`SLOW_REQUESTS_PER_STINT`] the session pauses ([`Pause::TURN`]).
    pub fn slow(&mut self, pause: &mut Pause) {
        self.slow += 1;
        if self.slow >= SLOW_REQUESTS_PER_STINT {
            pause.set(Pause::TURN);
        }
    }

    /// Others had their turn, or nobody asked for long.
    pub fn begin(&mut self, pause: &mut Pause) {
        self.slow = 0;
        pause.clear(Pause::TURN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stint_ends_after_so_many() {
        let (mut stint, mut pause) = (Stint::default(), Pause::default());
        pause.set(Pause::ROOM);
        for _ in 0..2 {
            for _ in 1..SLOW_REQUESTS_PER_STINT {
                stint.slow(&mut pause);
            }
            assert!(!pause.has(Pause::TURN));
            stint.slow(&mut pause);
            assert!(pause.has(Pause::TURN));
            stint.begin(&mut pause);
        }
        assert!(pause.has(Pause::ROOM) && !pause.has(Pause::TURN));
    }
}
