"""A browser without a window, for pages that are files. It reaches no network."""

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.children import CHILD, end, marked

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
)


@contextmanager
def browser(width: int = 1280, height: int = 900, dark: bool = False) -> Iterator[Any]:
    """A selenium driver of a fresh Chromium. Nothing of it is left after the block."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    for program in (CHROMIUM, DRIVER):
        if not program.exists():
            pytest.skip(f"{program} is not on this machine")
    mark = uuid.uuid4().hex
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for option in (*OPTIONS, f"--user-data-dir={profile}"):
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = None
        try:
            service = Service(str(DRIVER), env={**os.environ, CHILD: mark})
            driver = webdriver.Chrome(options=options, service=service)
            resize(driver, width, height)
            paint(driver, dark)
            yield driver
        finally:
            with suppress(Exception):  # it may have died; then its processes are ended below
                if driver is not None:
                    driver.quit()
            end(marked(CHILD, mark))


def resize(driver: Any, width: int, height: int = 900) -> None:
    """The size of the page's window, also below the smallest one of a real window."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def paint(driver: Any, dark: bool) -> None:
    """As a person's system does who prefers dark or light pages."""
    feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def complaints(driver: Any) -> list[str]:
    """What the page wrote to the console, errors of scripts and refused requests among it."""
    return [entry["message"] for entry in driver.get_log("browser")]


def until(driver: Any, script: str, seconds: float = 60) -> Any:
    """What the JavaScript expression is once it is true."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, seconds, 0.05).until(lambda _: driver.execute_script(f"return {script}"))
