//! How a notice names what became ready: channel and slot in one number. The list of notices is the same for every protocol:
//! [`wherry_session::Wakeups`].

/// The number by which a consumer (or a channel's reply inbox) is named in a notice. A number that is stale by the time
/// it is read costs a look, no more.
pub(super) fn token(channel: u16, slot: u32) -> u64 {
    u64::from(channel) << 32 | u64::from(slot)
}

/// Channel and slot of a token.
pub(super) fn place(token: u64) -> (u16, u32) {
    ((token >> 32) as u16, token as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_place() {
        for at in [(0, 0), (1, 2), (65_535, u32::MAX)] {
            assert_eq!(place(token(at.0, at.1)), at);
        }
    }
}
