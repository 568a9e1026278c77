//! Names that nobody can guess.

use crate::failure::{Failure, FailureKind};

/// Random bytes of a name.
const RANDOM_BYTES: usize = 16;

/// Letters of a name: six bits each. As long as RabbitMQ's, which clients may count on.
pub(crate) const RANDOM_LETTERS: usize = (RANDOM_BYTES * 8).div_ceil(6);

/// The URL-safe alphabet of RFC 4648, which needs no escaping anywhere that names are written.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn letters(random: [u8; RANDOM_BYTES]) -> [u8; RANDOM_LETTERS] {
    let bits = u128::from_be_bytes(random);
    std::array::from_fn(|i| {
        let shift = 6 * (RANDOM_LETTERS - 1 - i);
        ALPHABET[(bits >> shift & 63) as usize]
    })
}

/// 128 random bits as letters, which are ASCII.
///
/// # Errors
/// [`FailureKind::InternalError`] when the system has no random numbers.
pub(crate) fn random_letters() -> Result<[u8; RANDOM_LETTERS], Failure> {
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random).map_err(|error| {
        let text = format!("no random numbers: {error}");
        Failure::new(FailureKind::InternalError, text)
    })?;
    Ok(letters(random))
}

/// 128 random bits as a text of 22 letters that need no escaping anywhere.
///
/// # Errors
/// [`FailureKind::InternalError`] when the system has no random numbers.
pub fn random_name() -> Result<String, Failure> {
    Ok(random_letters()?.iter().map(|&l| char::from(l)).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn random_names_have_22_letters() {
        let names: HashSet<String> = (0..1000).map(|_| random_name().unwrap()).collect();
        assert_eq!(names.len(), 1000);
        let used: HashSet<u8> = names.iter().flat_map(|n| n.bytes()).collect();
        assert_eq!(used, ALPHABET.iter().copied().collect());
        assert!(names.iter().all(|name| name.len() == 22));
    }

    #[test]
    fn every_bit_is_in_a_name() {
        let names: HashSet<_> = (0..128)
            .map(|bit| letters((1_u128 << bit).to_be_bytes()))
            .collect();
        assert_eq!(names.len(), 128);
        assert!(!names.contains(&letters([0; RANDOM_BYTES])));
    }
}
