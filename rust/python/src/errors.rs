//! The one error type of this crate, and the one place where it becomes a Python exception.
//!
//! The exceptions themselves are Python classes in `wherry._errors`, so that they pickle and document well; here is
//! only the table from variant to class name.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyType;

use wherry_engine::Error as EngineError;

/// Why a call of the extension failed.
#[derive(Debug)]
pub(crate) enum Error {
    /// The engine refused.
    Engine(EngineError),
    /// Python code that we called raised, or a conversion did.
    Python(PyErr),
    /// `get_nowait` found nothing.
    QueueEmpty(String),
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An argument that can never be right.
    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Error::Engine(EngineError::InvalidArgument(text.into()))
    }
}

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Self {
        Error::Engine(error)
    }
}

impl From<PyErr> for Error {
    fn from(error: PyErr) -> Self {
        Error::Python(error)
    }
}

fn class_name(error: &EngineError) -> &'static str {
    match error {
        EngineError::UnknownExchange { .. } => "UnknownExchange",
        EngineError::UnknownQueue { .. } => "UnknownQueue",
        EngineError::UnknownVirtualHost { .. } => "UnknownVirtualHost",
        EngineError::UnknownDelivery { .. } => "UnknownDelivery",
        EngineError::PreconditionFailed(_) => "PreconditionFailed",
        EngineError::InvalidArgument(_) => "InvalidArgument",
        EngineError::MessageTooLarge { .. } => "MessageTooLarge",
        EngineError::Unroutable { .. } => "Unroutable",
        EngineError::PublishRejected { .. } => "PublishRejected",
        EngineError::Busy => "Busy",
        EngineError::AccessRefused(_) => "AccessRefused",
        EngineError::ResourceLocked(_) => "ResourceLocked",
        EngineError::Closed => "BrokerClosed",
        EngineError::JournalFailed(_) => "JournalFailed",
        EngineError::JournalCorrupt(_) => "JournalCorrupt",
        EngineError::DirectoryLocked(_) => "DirectoryLocked",
        EngineError::DiskFull(_) => "DiskFull",
        EngineError::NoSegment(_) => "StorageError",
        EngineError::Io(_) => "StorageError",
        // The enum may grow; its base class is right for whatever comes.
        _ => "WherryError",
    }
}

fn raise(py: Python<'_>, class: &str, message: String) -> PyErr {
    let class = py
        .import("wherry._errors")
        .and_then(|module| module.getattr(class))
        .and_then(|class| class.cast_into::<PyType>().map_err(PyErr::from));
    match class {
        Ok(class) => PyErr::from_type(class, (message,)),
        Err(_) => PyRuntimeError::new_err(message),
    }
}

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        match error {
            Error::Python(error) => error,
            Error::Engine(error) => {
                Python::attach(|py| raise(py, class_name(&error), error.to_string()))
            }
            Error::QueueEmpty(queue) => Python::attach(|py| {
                raise(
                    py,
                    "QueueEmpty",
                    format!(
                        "queue '{queue}' has no ready message: wait for one with get(), or try again later"
                    ),
                )
            }),
        }
    }
}
