//! The regular expressions of permissions: the engine's, with what topic permissions put into them.

pub use wherry_engine::pattern::{PATTERN_BYTES_MAX, Pattern, check_pattern};

#[cfg(test)]
thread_local! {
    /// Patterns that this thread had compiled.
    pub(crate) static COMPILED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// [`Pattern::compile`], counted in tests if it had to do something.
pub(crate) fn compile(pattern: &str) -> Result<Pattern, String> {
    let compiled = Pattern::compile(pattern);
    #[cfg(test)]
    if matches!(compiled, Ok(Pattern::Search(_))) {
        COMPILED.with(|count| count.set(count.get() + 1));
    }
    compiled
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_topic_permissions_are_no_patterns() {
        assert_eq!(
            expand("^{username}@{vhost}$", ".*", "a|b"),
            "^\\.\\*@a\\|b$"
        );
        assert!(has_variables("{vhost}") && !has_variables("{client_id}"));
    }
}
