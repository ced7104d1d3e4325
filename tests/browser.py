"""A real browser for tests: headless Chromium, driven by Selenium. Fixture `browser` in `conftest.py`.

Selenium, because it is the standard that browsers themselves implement (WebDriver): it waits, clicks and reads a page that
is made by scripts, and downloads no browser of its own when it is told where the driver is. Debian and Ubuntu have both
programs: `apt-get install chromium chromium-driver`.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

Browser = webdriver.Chrome
T = TypeVar("T")
SECONDS = 60.0
"""A deadline, not a duration: it leaves room for a machine that has other things to do."""

REBOUND = "rebound.test"
"""A foreign name that this browser takes for 127.0.0.1, as after DNS rebinding."""

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1400,1600",
    # Nothing leaves this machine, whatever a page names.
    f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)  # fmt: skip


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Yield a browser without any history; end it and remove what it wrote.

    Without Chromium the test is skipped; where MEDALLION_REQUIRE_BROWSER is set, as by `.ci/run`, it fails.
    """
    browser, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if browser is None or driver is None:
        missing = "NO BROWSER: install chromium and chromium-driver; this test says nothing without them."
        pytest.fail(missing) if os.environ.get("MEDALLION_REQUIRE_BROWSER") else pytest.skip(missing)
    with tempfile.TemporaryDirectory(prefix="medallion-browser-", ignore_cleanup_errors=True) as folder:
        options = Options()
        options.binary_location = browser
        for flag in (*_FLAGS, f"--user-data-dir={folder}"):
            options.add_argument(flag)
        opened = webdriver.Chrome(options=options, service=Service(driver))
        opened.set_page_load_timeout(SECONDS)
        try:
            yield opened
        finally:
            opened.quit()


def wait_for(browser: Browser, what: str, ask: Callable[[Browser], T]) -> T:
    """Return the first answer of `ask` that is true; elements that are not there yet do not count."""
    return WebDriverWait(browser, SECONDS).until(ask, f"waited {SECONDS:.0f} s for {what}")


def text_of(browser: Browser) -> str:
    """Return the text that the page shows now."""
    return str(browser.execute_script("return document.body ? document.body.innerText : ''"))
