//! Looks for bytes that need a thought, eight at a time: headers are short, and a call that looks at many bytes at once costs
//! more than they do.
//!
//! The bit tricks are those of "Bit Twiddling Hacks" (Sean Eron Anderson, "Determine if a word has a byte less than n"): of
//! the marks that they leave the lowest one is right always, those above it need not be.

use super::errors::FrameError;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Marks bytes that are `byte`.
#[inline]
const fn equal(word: u64, byte: u8) -> u64 {
    let zeros = word ^ (ONES * byte as u64);
    zeros.wrapping_sub(ONES) & !zeros & HIGH
}

/// Marks control characters, backslashes and what is not ASCII.
#[inline]
const fn special(word: u64) -> u64 {
    let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
    control | equal(word, b'\\') | word & HIGH
}

#[inline]
fn run(bytes: &[u8], marks: impl Fn(u64) -> u64) -> usize {
    let mut at = 0;
    while let Some(eight) = bytes[at..].first_chunk() {
        let marked = marks(u64::from_le_bytes(*eight));
        if marked != 0 {
            return at + marked.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = bytes[at..].iter();
    at + rest
        .take_while(|byte| marks(u64::from(**byte) | SPACES) == 0)
        .count()
}

/// Nothing special, above the byte that is looked at alone.
const SPACES: u64 = (ONES << 8) * b' ' as u64;

/// How many bytes stand at the beginning that are plain ASCII: no control character and no backslash.
#[inline]
pub(super) fn plain(bytes: &[u8]) -> usize {
    run(bytes, special)
}

/// As [`plain`], and no colon.
#[inline]
pub(super) fn plain_name(bytes: &[u8]) -> usize {
    run(bytes, |word| special(word) | equal(word, b':'))
}

/// Bytes of line ends at the beginning. A NUL is taken for one, as RabbitMQ takes it: some clients end their frames twice.
pub(super) fn line_ends(bytes: &[u8]) -> usize {
    let mut count = 0;
    loop {
        match bytes[count..] {
            [b'\n' | 0, ..] => count += 1,
            [b'\r', b'\n', ..] => count += 2,
            _ => return count,
        }
    }
}

/// A number in decimal digits. One that does not fit is larger than every limit.
pub(super) fn number(digits: &[u8]) -> Result<usize, FrameError> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(FrameError::BadContentLength);
    }
    let add = |sum: usize, digit: &u8| {
        sum.saturating_mul(10)
            .saturating_add(usize::from(digit - b'0'))
    };
    Ok(digits.iter().fold(0, add))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_judged_in_every_place() {
        for length in 0..20 {
            for at in 0..=length {
                for byte in 0..=255u8 {
                    let mut bytes = vec![b' '; length];
                    if at < length {
                        bytes[at] = byte;
                        bytes[at + 1..].fill(b'\n');
                    }
                    let is_plain = |b: &u8| matches!(b, 32..=127) && *b != b'\\';
                    let count = |f: &dyn Fn(&u8) -> bool| bytes.iter().take_while(|b| f(b)).count();
                    assert_eq!(plain(&bytes), count(&is_plain), "{bytes:?}");
                    let expected = count(&|b| is_plain(b) && *b != b':');
                    assert_eq!(plain_name(&bytes), expected, "{bytes:?}");
                }
            }
        }
    }
}
