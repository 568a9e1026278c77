//! The extension module `wherry._core`: converts, calls, converts back.

use pyo3::prelude::*;

/// The list of exports.
#[pymodule(gil_used = false)]
mod _core {}
