//! Why a session works off no frame: [`Pause`].

/// Reasons to work off no frame; a set. What comes meanwhile is kept, and the server reads no more from the socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pause(u8);

impl Pause {
    /// A publish or commit waits for room.
    pub const ROOM: Pause = Pause(1);
    /// The peer does not read its answers.
    pub const OUTPUT: Pause = Pause(1 << 1);
    /// As many publishes wait for their confirm or receipt as may.
    pub const UNCONFIRMED: Pause = Pause(1 << 2);
    /// The server is asked about credentials.
    pub const CREDENTIALS: Pause = Pause(1 << 3);
    /// Others are to have their turn; `write_into` ends it.
    pub const TURN: Pause = Pause(1 << 4);

    /// Whether there is a reason.
    #[inline]
    pub fn any(self) -> bool {
        self.0 != 0
    }

    /// Whether one of the reasons in `other` is there.
    #[inline]
    pub fn has(self, other: Pause) -> bool {
        self.0 & other.0 != 0
    }

    /// The reasons in `other` came up.
    #[inline]
    pub fn set(&mut self, other: Pause) {
        self.0 |= other.0;
    }

    /// The reasons in `other` are gone.
    #[inline]
    pub fn clear(&mut self, other: Pause) {
        self.0 &= !other.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_lasts_while_one_reason_is_left() {
        let mut pause = Pause::default();
        assert!(!pause.any());
        pause.set(Pause::ROOM);
        pause.set(Pause::OUTPUT);
        pause.clear(Pause::ROOM);
        assert!(pause.any() && pause.has(Pause::OUTPUT) && !pause.has(Pause::ROOM));
        pause.clear(Pause::OUTPUT);
        assert_eq!(pause, Pause::default());
    }
}
