//! The regular expressions of permissions.
//!
//! As in RabbitMQ a pattern is searched for, not anchored: `^` and `$` are the user's to write; and the empty pattern is
//! `^$`, which grants nothing but the name that is empty. The dialect is Rust's `regex`, which has no look-around and no
//! back references and in return matches in linear time, so that no pattern can be used to stop the server. `$` matches
//! at the end only; in RabbitMQ (PCRE) also before a last newline.

use regex::{Regex, RegexBuilder};

/// Bytes of one pattern. The longest seen in public definitions files have some hundreds.
pub const PATTERN_BYTES_MAX: usize = 4096;

/// Bytes of a compiled pattern. Bounds what `(a{1000}){1000}` costs; an ordinary one takes some kilobytes.
const COMPILED_BYTES_MAX: usize = 256 << 10;

/// Levels of groups in each other, so that parsing cannot exhaust the stack.
const NESTING_MAX: u32 = 64;

/// A compiled pattern. The two that nearly everybody uses need no engine.
#[derive(Clone, Debug)]
pub(crate) enum Pattern {
    /// `.*` and its spellings.
    Everything,
    /// The empty pattern, and `^$`.
    Empty,
    /// Any other.
    Search(Regex),
}

impl Pattern {
    pub(crate) fn compile(pattern: &str) -> Result<Pattern, String> {
        match pattern {
            "" | "^$" => return Ok(Pattern::Empty),
            ".*" | "^.*" | ".*$" | "^.*$" => return Ok(Pattern::Everything),
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
            // A name may hold a newline: "everything" must mean it.
            .dot_matches_new_line(true)
            .build()
            .map(Pattern::Search)
            .map_err(|error| format!("invalid pattern '{pattern}': {error}"))
    }

    #[inline]
    pub(crate) fn matches(&self, text: &str) -> bool {
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

/// Puts the values of a session into a topic permission. They are data, not patterns: a user called `.*` is matched
/// literally.
pub(crate) fn expand(pattern: &str, user: &str, virtual_host: &str) -> String {
    pattern
        .replace("{username}", &regex::escape(user))
        .replace("{vhost}", &regex::escape(virtual_host))
}

/// Whether [`expand`] would change it.
pub(crate) fn has_variables(pattern: &str) -> bool {
    pattern.contains("{username}") || pattern.contains("{vhost}")
}
