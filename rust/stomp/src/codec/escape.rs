//! Escapes in names and values of headers.
//!
//! A sequence that the version does not define is an error, as the specifications demand ("undefined escape sequences such
//! as \t MUST be treated as fatal"): guessing would let a peer smuggle a line end past somebody who guesses otherwise.

use std::borrow::Cow;

use memchr::{memchr, memchr3};

/// Which escapes hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escapes {
    /// None: 1.0, and the frames of the handshake.
    None,
    /// `\n`, `\c`, `\\`.
    V1_1,
    /// These and `\r`.
    V1_2,
}

impl Escapes {
    /// What a letter behind a backslash stands for.
    #[inline]
    fn meaning(self, letter: u8) -> Option<u8> {
        match (self, letter) {
            (Escapes::None, _) => None,
            (_, b'n') => Some(b'\n'),
            (_, b'c') => Some(b':'),
            (_, b'\\') => Some(b'\\'),
            (Escapes::V1_2, b'r') => Some(b'\r'),
            _ => None,
        }
    }

    /// Whether every escape in `text` has a meaning.
    #[inline]
    pub fn are_defined(self, text: &[u8]) -> bool {
        if self == Escapes::None {
            return true;
        }
        let mut rest = text;
        while let Some(at) = memchr(b'\\', rest) {
            match rest.get(at + 1) {
                Some(&letter) if self.meaning(letter).is_some() => rest = &rest[at + 2..],
                _ => return false,
            }
        }
        true
    }

    /// Whether `text` can be written at all. NUL cannot, although the grammar of 1.2 forgets to say so: clients look for the
    /// end of a frame by it. What cannot be escaped would end the line.
    pub fn can_write(self, text: &[u8]) -> bool {
        match self {
            Escapes::None => memchr3(b'\n', b'\r', 0, text).is_none(),
            Escapes::V1_1 => memchr::memchr2(b'\r', 0, text).is_none(),
            Escapes::V1_2 => memchr(0, text).is_none(),
        }
    }

    /// Appends `text` escaped.
    #[inline]
    pub fn write(self, text: &[u8], out: &mut Vec<u8>) {
        if self == Escapes::None {
            return out.extend_from_slice(text);
        }
        let mut rest = text;
        // A carriage return is rarer still: 1.1 cannot write it, and `can_write` says so.
        while let Some(at) = next_special(rest) {
            out.extend_from_slice(&rest[..at]);
            out.extend_from_slice(match rest[at] {
                b'\n' => b"\\n",
                b':' => b"\\c",
                b'\r' => b"\\r",
                _ => b"\\\\",
            });
            rest = &rest[at + 1..];
        }
        out.extend_from_slice(rest);
    }
}

/// The first byte that has to be escaped.
#[inline]
fn next_special(text: &[u8]) -> Option<usize> {
    text.iter()
        .position(|byte| matches!(byte, b'\n' | b':' | b'\\' | b'\r'))
}

/// What an escaped text means; borrowed if nothing in it is escaped. A sequence without a meaning stays as it is:
/// [`Escapes::are_defined`] was asked before.
pub fn unescape(text: &str, escapes: Escapes) -> Cow<'_, str> {
    if escapes == Escapes::None || memchr(b'\\', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let mut ahead = letters.clone();
        let meant = (letter == '\\')
            .then(|| ahead.next())
            .flatten()
            .and_then(|next| u8::try_from(next).ok())
            .and_then(|next| escapes.meaning(next));
        match meant {
            Some(byte) => {
                plain.push(char::from(byte));
                letters = ahead;
            }
            None => plain.push(letter),
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_its_escapes() {
        assert!(Escapes::None.are_defined(br"\t\"));
        for good in [r"", r"a\nb", r"\c\c", r"\\", r"\\t"] {
            assert!(Escapes::V1_1.are_defined(good.as_bytes()), "{good}");
        }
        for bad in [r"\t", r"a\", r"\r", r"\\\", r"\N", r"\é"] {
            assert!(!Escapes::V1_1.are_defined(bad.as_bytes()), "{bad}");
        }
        assert!(Escapes::V1_2.are_defined(br"\r"));
        assert_eq!(unescape(r"a\c\n\\n\r", Escapes::V1_2), "a:\n\\n\r");
        assert_eq!(unescape(r"a\c\r", Escapes::V1_1), "a:\\r");
        assert_eq!(unescape(r"a\c", Escapes::None), r"a\c");
    }

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["", "plain", "a:b\nc\\d", "ü:\u{1F600}\\"] {
            for escapes in [Escapes::V1_1, Escapes::V1_2] {
                let mut out = Vec::new();
                escapes.write(text.as_bytes(), &mut out);
                let written = String::from_utf8(out).unwrap();
                assert!(!written.contains(['\n', ':']));
                assert!(escapes.are_defined(written.as_bytes()));
                assert_eq!(unescape(&written, escapes), text);
            }
        }
    }

    #[test]
    fn what_would_end_the_line_cannot_be_written() {
        for (escapes, cannot) in [
            (Escapes::None, &["a\n", "\r", "\0"][..]),
            (Escapes::V1_1, &["\r", "\0"]),
            (Escapes::V1_2, &["\0"]),
        ] {
            for text in ["a\n", "\r", "\0", "b"] {
                assert_eq!(
                    escapes.can_write(text.as_bytes()),
                    !cannot.contains(&text),
                    "{escapes:?} {text:?}"
                );
            }
        }
    }
}
