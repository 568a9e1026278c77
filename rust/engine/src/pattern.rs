//! Regular expressions over names: those of policies here, and of permissions in what is above this crate.
//!
//! As in RabbitMQ a pattern is searched for, not anchored: `^` and `$` are the user's to write; and the empty pattern is
//! `^$`, which grants nothing but the name that is empty. The dialect is Rust's `regex`, which has no look-around and no
//! back references and in return matches in linear time, so that no pattern can be used to stop the server. `$` matches
//! at the end only; in RabbitMQ (PCRE) also before a last newline.

use std::sync::Arc;

use regex::{Regex, RegexBuilder};

/// Bytes of one pattern. The longest seen in public definitions files have some hundreds.
pub const PATTERN_BYTES_MAX: usize = 4096;

/// Bytes of a compiled pattern. Bounds what `(a{1000}){1000}` costs; an ordinary one takes some kilobytes.
const COMPILED_BYTES_MAX: usize = 256 << 10;

/// Levels of groups in each other, so that parsing cannot exhaust the stack.
const NESTING_MAX: u32 = 64;

/// A compiled pattern. The two that nearly everybody uses need no engine.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// `.*` and what else matches every text.
    Everything,
    /// The empty pattern, and `^$`.
    Empty,
    /// Any other. Shared: a copy of a regular expression is a scratch space of its own, which takes longer to make than a
    /// name takes to be found.
    Search(Arc<Regex>),
}

impl Pattern {
    /// The pattern, ready to match.
    ///
    /// # Errors
    /// What is wrong with it, with the place.
    pub fn compile(pattern: &str) -> Result<Pattern, String> {
        match pattern {
            "" | "^$" => return Ok(Pattern::Empty),
            ".*" | "^.*" | ".*$" => return Ok(Pattern::Everything),
            _ => {}
        }
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(format!(
                "pattern of {} bytes: the limit is {PATTERN_BYTES_MAX}",
                pattern.len()
            ));
        }
        RegexBuilder::new(pattern)
            .size_limit(COMPILED_BYTES_MAX)
            .dfa_size_limit(COMPILED_BYTES_MAX)
            .nest_limit(NESTING_MAX)
            .build()
            .map(|regex| Pattern::Search(Arc::new(regex)))
            .map_err(|error| format!("invalid pattern '{pattern}': {error}"))
    }

    /// Whether it was made of this text. False also of some that mean the same.
    pub fn is(&self, text: &str) -> bool {
        matches!(self, Pattern::Search(regex) if regex.as_str() == text)
    }

    /// Whether it is found in the text; in time linear in the text.
    #[inline]
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Pattern::Everything => true,
            Pattern::Empty => text.is_empty(),
            Pattern::Search(regex) => regex.is_match(text),
        }
    }
}

/// Whether a pattern can be used in a permission.
///
/// # Errors
/// What is wrong with it, with the place.
pub fn check_pattern(pattern: &str) -> Result<(), String> {
    Pattern::compile(pattern).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::compile(pattern).unwrap().matches(text)
    }

    #[test]
    fn patterns_are_searched_for_and_the_empty_one_is_anchored() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("^$", "a", false),
            (".*", "a\nb", true),
            ("^.*$", "a\nb", false), // as in RabbitMQ
            (".*", "", true),
            ("ob", "jobs", true),
            ("^ob", "jobs", false),
            ("^(amq\\.gen.*|amq\\.default)$", "amq.default", true),
            ("^(amq\\.gen.*|amq\\.default)$", "amqxdefault", false),
            ("(?i)^JOBS$", "jobs", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern:?} on {text:?}");
        }
    }

    #[test]
    fn patterns_that_could_cost_much_are_refused() {
        let long = "a".repeat(PATTERN_BYTES_MAX);
        assert!(check_pattern(&long).is_ok());
        assert!(
            check_pattern(&format!("{long}a"))
                .unwrap_err()
                .contains("4097")
        );
        assert!(
            check_pattern("(a{1000}){1000}")
                .unwrap_err()
                .contains("size limit")
        );
        let deep = |n: usize| format!("{}a{}", "(".repeat(n), ")".repeat(n));
        assert!(check_pattern(&deep(NESTING_MAX as usize - 1)).is_ok());
        assert!(check_pattern(&deep(NESTING_MAX as usize + 1)).is_err());
        assert!(check_pattern("^(?!secret)").is_err(), "no look-around");
        assert!(check_pattern("(").is_err());
    }
}
