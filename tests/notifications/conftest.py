"""The example `examples/notifications`: a program, and two browsers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from example import EXAMPLE, application

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from example import Application


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Application]:
    """A program that has nobody yet."""
    with application(tmp_path / "data") as running_application:
        yield running_application


def needs_browser() -> None:
    """Skip where there is none."""
    import browser

    missing = [
        f"{what} ({how})"
        for what, how, there in (
            ("chromium", "make chromium-install", browser.CHROMIUM),
            ("chromedriver", "make chromium-install", browser.DRIVER),
            (
                "@stomp/stompjs",
                "make example-install",
                (EXAMPLE / "node_modules/@stomp/stompjs").exists(),
            ),
        )
        if not there
    ]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")


@pytest.fixture(scope="session")
def browsers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    """Two of them, each with a profile of its own: two people at two machines."""
    pytest.importorskip("selenium", reason="make example-install")
    needs_browser()
    from browser import browser

    with (
        browser(tmp_path_factory.mktemp("ada")) as one,
        browser(tmp_path_factory.mktemp("bob")) as two,
    ):
        yield one, two


@pytest.fixture
def pages(browsers: tuple[Any, Any]) -> Iterator[Callable[[str], tuple[Any, Any]]]:
    """Makes a page in each browser, of the program with this address."""
    from browser import Page

    made: list[Any] = []

    def make(url: str) -> tuple[Any, Any]:
        made.extend(Page(driver, url) for driver in browsers)
        return made[-2], made[-1]

    yield make
    for page in made:
        page.leave()
