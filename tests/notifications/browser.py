"""A page of the example in a real browser, as its user sees it."""

from __future__ import annotations

import contextlib
import shutil
import time
from typing import TYPE_CHECKING, Any

from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.by import By

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")

# Nothing that the browser would do by itself, and no trace of what it did before.
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1100,800",
)

WAIT_SECONDS = 20.0


@contextlib.contextmanager
def browser(directory: Path) -> Iterator[webdriver.Chrome]:
    """A browser with a new profile."""
    assert CHROMIUM is not None
    assert DRIVER is not None
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (*ARGUMENTS, f"--user-data-dir={directory}"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def eventually(look: Callable[[], Any], expected: object) -> None:
    """Look until it is as expected; a page is drawn when it has time."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            seen = look()
        except (NoSuchElementException, StaleElementReferenceException):
            seen = "being drawn"
        if seen == expected or time.monotonic() > deadline:
            assert seen == expected
            return
        time.sleep(0.02)


class Page:
    """What a user does and sees."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self._driver = driver
        self.url = url

    def open(self, path: str = "/") -> None:
        """Go there. Who was logged in is still."""
        self._driver.get(self.url + path)

    def leave(self) -> None:
        """Close the page; the tab remembers its session."""
        self._driver.get("about:blank")

    def log_in(self, name: str, path: str = "/", password: str = "correct horse") -> None:
        """Open the page and fill in the form."""
        self.open(path)
        self._find("#login [name=name]").send_keys(name)
        self._find("#login [name=password]").send_keys(password)
        self._find("#login button").click()

    def log_out(self) -> None:
        """Press the button; the form is there again."""
        self._find("#logout").click()
        eventually(lambda: self._find("#login").is_displayed(), True)

    def _find(self, selector: str) -> Any:
        return self._driver.find_element(By.CSS_SELECTOR, selector)

    def run(self, script: str) -> Any:
        """A promise's value, or any other."""
        return self._driver.execute_script(script)

    def run_later(self, script: str, *arguments: object) -> Any:
        """What the script gives to the function that is its last argument."""
        self._driver.set_script_timeout(WAIT_SECONDS)
        return self._driver.execute_async_script(script, *arguments)

    # Seen

    def status(self) -> str:
        """Beside the title."""
        return str(self._find("#status").text)

    def error(self) -> str:
        """In red."""
        return str(self._find("#error").text)

    def unread(self) -> int:
        """The counter in the bar."""
        return int(self._find("#unread").text)

    def title(self) -> str:
        """Of the window."""
        return self._driver.title

    def people(self) -> dict[str, str]:
        """Name and `online` or `offline`; with an unread counter, that too."""
        return dict(
            self.run(
                "return [...document.querySelectorAll('#people li')].map((item) => {"
                " const badge = item.querySelector('.badge');"
                " const unread = badge.hidden ? '' : ` ${badge.textContent} unread`;"
                " return [item.dataset.name, item.querySelector('small').textContent + unread]; })"
            )
        )

    def feed(self) -> list[str]:
        """`author: text` of each post, the newest first; `* ` before those that are unread."""
        return list(
            self.run(
                "return [...document.querySelectorAll('#feed li')].map((item) =>"
                " (item.classList.contains('unread') ? '* ' : '') +"
                " item.querySelector('.author').textContent + ': ' +"
                " item.querySelector('p:nth-of-type(2)').textContent)"
            )
        )

    def requests(self) -> int:
        """HTTP requests that the browser made for this page, whatever the page says."""
        return int(self.run("return performance.getEntriesByType('resource').length"))

    # Done

    def follow(self, name: str) -> None:
        """Press the button beside a name."""
        self._find(f"#people [data-name={name}] button").click()

    def post(self, text: str) -> None:
        """Write something."""
        self._find("#text").send_keys(text)
        self._find("#compose button").click()
        eventually(lambda: self._find("#text").get_property("value"), "")

    def read(self, text: str) -> None:
        """Press "Mark read" beside a post."""
        for item in self._driver.find_elements(By.CSS_SELECTOR, "#feed li"):
            if item.find_element(By.CSS_SELECTOR, "p:nth-of-type(2)").text == text:
                item.find_element(By.TAG_NAME, "button").click()

    def picture(self, path: Path) -> None:
        """Of what is seen."""
        assert self._driver.save_screenshot(str(path))
