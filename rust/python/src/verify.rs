//! Checking a data directory's journal: `wherry journal verify`.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use wherry_engine::Error as EngineError;
use wherry_journal::{Disk, OpenError, verify};

use crate::errors::{Error, Result};

fn error_of(error: OpenError) -> Error {
    match error {
        OpenError::Locked { .. } => EngineError::DirectoryLocked(error.to_string()),
        OpenError::Corrupt { .. } => EngineError::JournalCorrupt(error.to_string()),
        _ => EngineError::Io(error.to_string()),
    }
    .into()
}

/// Reads a journal that nobody has open, changes nothing, and tells what is in it.
#[pyfunction]
#[pyo3(signature = (path, progress=None))]
pub(crate) fn verify_journal(
    py: Python<'_>,
    path: PathBuf,
    progress: Option<Py<PyAny>>,
) -> Result<Bound<'_, PyDict>> {
    let mut raised = None;
    let found = py.detach(|| {
        verify(<dyn Disk>::real(path), &mut |done, total| {
            if let (Some(progress), None) = (&progress, &raised) {
                raised = Python::attach(|py| progress.call1(py, (done, total)).err());
            }
        })
    });
    if let Some(error) = raised {
        return Err(error.into());
    }
    let found = found.map_err(error_of)?;
    let report = found.report;
    let result = PyDict::new(py);
    result.set_item("segments", report.segments)?;
    result.set_item("records", report.records)?;
    result.set_item("bytes", report.bytes)?;
    result.set_item("torn_bytes", report.cut_bytes)?;
    result.set_item("closed", report.closed)?;
    result.set_item("end", found.end)?;
    let holes: Vec<_> = report
        .holes
        .into_iter()
        .map(|hole| (hole.segment, hole.from, hole.to, hole.reason))
        .collect();
    result.set_item("holes", holes)?;
    Ok(result)
}
