//! Topic keys and patterns: words between dots, `*` for exactly one word, `#` for any number of words, also none.
//!
//! A wildcard is a whole word; `a*` is an ordinary word. Empty words are words: `a..b` has three, `.` has two. The empty key has no word
//! at all, as in RabbitMQ: `#` matches it, `*` does not.

/// The words of a key or pattern, from some word on.
#[derive(Clone, Copy)]
pub(super) struct Words<'a> {
    /// `None` behind the last word.
    rest: Option<&'a [u8]>,
}

impl<'a> Words<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self {
            rest: (!text.is_empty()).then_some(text),
        }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        match rest.iter().position(|byte| *byte == b'.') {
            Some(dot) => {
                self.rest = Some(&rest[dot + 1..]);
                Some(&rest[..dot])
            }
            None => self.rest.take(),
        }
    }
}

/// Whether `pattern` matches `key`. Only the last `#` met is ever reconsidered, since an earlier one can only do what a later one can do
/// as well; so the cost is at most (words of the pattern) x (words of the key) comparisons: 16,000 for the longest.
pub(super) fn matches(pattern: &[u8], key: &[u8]) -> bool {
    let (mut pattern, mut key) = (Words::new(pattern), Words::new(key));
    // The pattern behind the last `#`, and the key from the first word that this `#` has not taken.
    let mut last: Option<(Words<'_>, Words<'_>)> = None;
    loop {
        let (mut pattern_next, mut key_next) = (pattern, key);
        match (pattern_next.next(), key_next.next()) {
            (Some(b"#"), _) => {
                pattern = pattern_next;
                last = Some((pattern, key));
                continue;
            }
            (None, None) => return true,
            (Some(wanted), Some(word)) if wanted == b"*" || wanted == word => {
                (pattern, key) = (pattern_next, key_next);
                continue;
            }
            _ => {}
        }
        let Some((pattern_behind, key_from)) = &mut last else {
            return false;
        };
        if key_from.next().is_none() {
            return false;
        }
        (pattern, key) = (*pattern_behind, *key_from);
    }
}
