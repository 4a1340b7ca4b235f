"""A headless Chromium driven through chromedriver's WebDriver protocol, with nothing but the standard library."""

import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DRAWN = "return document.documentElement.dataset.drawn || null"
PLOTS = "return document.querySelectorAll('.js-plotly-plot svg.main-svg, .js-plotly-plot canvas').length"


class Opened(NamedTuple):
    """A page after everything on it was drawn."""

    seconds: float
    """From the request to the last drawing, by the page's own clock."""
    plots: int
    """Pictures of charts: svg and canvas elements."""
    errors: tuple[str, ...]
    """What the console has of severe messages."""


def missing() -> str | None:
    """What is not installed, in words; None where there is a browser and its driver."""
    if not any(map(shutil.which, BROWSERS)):
        return f"no browser is installed ({', '.join(BROWSERS)})"
    return None if shutil.which("chromedriver") else "chromedriver is not installed"


class Browser:
    """One session. Made by `browser`."""

    def __init__(self, address: str, capabilities: dict[str, Any]):
        self.address = address
        session = self.call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self.address = f"{address}/session/{session['sessionId']}"

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One command of the protocol. Raises RuntimeError with what the driver says of a failure."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, data, headers, method=method)
        # Whatever proxy is set, the driver is on this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(error.read().decode()[:2000]) from error

    def run(self, script: str) -> Any:
        """What a script in the page returns."""
        return self.call("POST", "/execute/sync", {"script": script, "args": []})

    def open(self, page: Path, limit: float = 60.0) -> Opened:
        """Opens a report from the disk and waits until it is drawn, at most `limit` seconds."""
        self.call("POST", "/url", {"url": page.resolve().as_uri()})
        end = time.monotonic() + limit
        drawn = self.run(DRAWN)
        while drawn is None and time.monotonic() < end:
            time.sleep(0.05)
            drawn = self.run(DRAWN)
        seconds = float("inf") if drawn is None else int(drawn) / 1000
        return Opened(seconds, self.run(PLOTS), self.errors())

    def errors(self) -> tuple[str, ...]:
        """Severe messages of the console since the last call."""
        messages = self.call("POST", "/se/log", {"type": "browser"})
        return tuple(message["message"] for message in messages if message["level"] == "SEVERE")

    def emulate(self, scheme: str, width: int, height: int) -> None:
        """Makes the page light or dark, and so many CSS pixels large."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.devtools("Emulation.setEmulatedMedia", {"features": features})
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700}
        self.devtools("Emulation.setDeviceMetricsOverride", metrics)

    def screenshot(self, path: Path) -> None:
        """Writes what is seen as a PNG."""
        path.write_bytes(base64.b64decode(self.call("GET", "/screenshot")))

    def devtools(self, command: str, parameters: dict[str, Any]) -> Any:
        """A command of Chromium's own protocol."""
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A browser with a profile of its own; it ends with the block. `missing` says whether there is one."""
    binary = next(found for found in map(shutil.which, BROWSERS) if found)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
        try:
            assert driver.stdout is not None
            port = next(
                line.split("port ")[1].strip(" .\n") for line in driver.stdout if "successfully on port" in line
            )
            options = {"binary": binary, "args": [*SWITCHES, f"--user-data-dir={profile}"]}
            capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            session = Browser(f"http://127.0.0.1:{port}", capabilities)
            try:
                yield session
            finally:
                session.call("DELETE", "")
        finally:
            driver.terminate()
            driver.wait()
