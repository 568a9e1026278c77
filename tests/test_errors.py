"""What all exceptions have in common. Each is met by a test somewhere."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

import wherry
from wherry import _errors

ROOT = Path(__file__).parent.parent
CLASSES = [
    value
    for value in vars(_errors).values()
    if isinstance(value, type) and issubclass(value, Exception)
]


@pytest.mark.parametrize("error", CLASSES)
def test_it_is_public_documented_and_has_the_one_base(error: type[Exception]) -> None:
    assert issubclass(error, wherry.WherryError)
    assert getattr(wherry, error.__name__) is error
    assert error.__name__ in wherry.__all__
    assert error.__doc__


@pytest.mark.parametrize("error", CLASSES)
def test_it_pickles(error: type[wherry.WherryError]) -> None:
    before = error("what to do")
    before.published = 3
    after = pickle.loads(pickle.dumps(before))
    assert type(after) is error
    assert str(after) == "what to do"
    assert after.published == 3


def test_python_knows_some_of_them() -> None:
    assert issubclass(wherry.InvalidArgument, ValueError)
    assert issubclass(wherry.StorageError, OSError)
    assert issubclass(wherry.WrongLoop, RuntimeError)


def test_every_error_of_the_engine_has_its_class() -> None:
    """The extension's table names every variant of the engine's error, and classes that exist."""
    engine = (ROOT / "rust/engine/src/error.rs").read_text()
    body = engine[engine.index("pub enum Error {") :]
    body = body[: body.index("\n}")]
    variants = set(re.findall(r"^    ([A-Z]\w+)", body, re.MULTILINE))
    table = (ROOT / "rust/python/src/errors.rs").read_text()
    mapped = dict(re.findall(r"EngineError::(\w+)\b[^=\n]*=>\s*\"(\w+)\"", table))
    assert variants == set(mapped)
    assert len(variants) > 15
    for name in mapped.values():
        assert issubclass(getattr(wherry, name), wherry.WherryError)


def test_every_error_is_met_by_a_test() -> None:
    """Except those that need a broken disk, which the journal's own tests break."""
    tests = "".join(
        path.read_text()
        for path in Path(__file__).parent.glob("test_*.py")
        if path.name != __name__
    )
    met = set(re.findall(r"wherry\.(\w+)", " ".join(re.findall(r"raises\((.*)\)", tests))))
    missing = {error.__name__ for error in CLASSES} - met
    assert missing <= {"WherryError", "JournalFailed", "DiskFull", "ResourceLocked"}
