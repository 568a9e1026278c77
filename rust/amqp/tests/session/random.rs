//! Random scripts; see `script`.

use proptest::prelude::*;

use crate::script::play;

proptest! {
    #![proptest_config(ProptestConfig { cases: 8 * ProptestConfig::default().cases, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_said_nothing_breaks_and_nothing_is_left(script in prop::collection::vec(any::<u8>(), 0..600)) {
        play(&script);
    }
}
