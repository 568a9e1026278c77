"""What the papers show works: every Python block of the README and the examples are run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _blocks() -> list[str]:
    return BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))


def _run(source: str, directory: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", source],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("number", range(len(_blocks())))
def test_a_block_of_the_readme_runs(number: int, tmp_path: Path) -> None:
    source = _blocks()[number]
    printed = _run(source, tmp_path)
    # Where the README says what is printed, it is that.
    assert printed.splitlines() == re.findall(r"# prints: (.*)$", source, re.MULTILINE)


def test_the_readme_has_code() -> None:
    assert len(_blocks()) >= 1


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name
)
def test_an_example_runs(path: Path, tmp_path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    printed = _run(source, tmp_path)
    assert printed.splitlines() == re.findall(r"# prints: (.*)$", source, re.MULTILINE)


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "examples/notifications/README.md",
        *(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")),
    ],
)
def test_a_page_links_only_to_what_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
        assert ((ROOT / page).parent / target).exists(), target
