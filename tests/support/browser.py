"""A headless Chromium, driven over its DevTools protocol by pipes: what a page asks for, says and looks like."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run"),
    *("--remote-debugging-pipe", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND",  # no name has an address
)
DRAWN = """new Promise(done => {
    const look = () => window.Bokeh?.documents.length == document.querySelectorAll(".plot").length
        && Bokeh.documents.every(each => each.is_idle) ? done(true) : setTimeout(look, 20); look(); })"""


@dataclass
class Page:
    """A page in a browser; `requests` and `said` grow while messages are read."""

    commands: int
    answers: int
    session: str = ""
    requests: list[str] = field(default_factory=list)  # addresses other than the page's own
    said: list[str] = field(default_factory=list)  # errors and warnings of the console
    _buffer: bytes = b""
    _number: int = 0

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return the answer to a command."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        os.write(self.commands, json.dumps(message | ({"sessionId": self.session} if self.session else {})).encode())
        os.write(self.commands, b"\0")
        while True:
            found = self._read()
            self._note(found)
            if found.get("id") == self._number:
                assert "error" not in found, found
                answer: dict[str, Any] = found["result"]
                return answer

    def evaluate(self, script: str) -> Any:
        """Return the value of an expression, of a promise what it comes to."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def open(self, path: Path, *, width: int = 1000, dark: bool = False) -> None:
        """Open a file and wait until each of its plots is drawn."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.send("Emulation.setEmulatedMedia", features=scheme)
        self.send("Page.navigate", url=path.resolve().as_uri())
        assert self.evaluate(DRAWN)

    def screenshot(self, to: Path) -> None:
        """Write a picture of the whole page."""
        found = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        to.write_bytes(base64.b64decode(found["data"]))

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            more = os.read(self.answers, 1 << 20)
            assert more, "the browser has ended"
            self._buffer += more
        text, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(text)
        return found

    def _note(self, message: Mapping[str, Any]) -> None:
        method, about = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent" and about["type"] != "Document":
            self.requests.append(about["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.said.append(about["exceptionDetails"].get("exception", {}).get("description", "an exception")[:300])
        elif method == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
            self.said.append(str(about["args"]))
        elif method == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.said.append(about["entry"]["text"])


def find_browser() -> str:
    """Return the path of a Chromium; fails, and does not skip, where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    assert found, f"expected one of {', '.join(NAMES)} in PATH, found none: apt-get install chromium"
    return found


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """Run a browser with an empty profile, and yield a page of it."""
    from_us, commands = os.pipe()
    answers, to_us = os.pipe()

    # A Chromium expects them as 3 and 4, which may be taken here by each other.
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (from_us, to_us)]
    process = subprocess.Popen(
        [
            *("bash", "-c", f'exec "$@" 3<&{ends[0]} 4>&{ends[1]}', "bash"),
            *(find_browser(), *FLAGS, f"--user-data-dir={profile}", "about:blank"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=ends,
    )
    for end in (from_us, to_us, *ends):
        os.close(end)
    page = Page(commands, answers)
    try:
        target = next(each for each in page.send("Target.getTargets")["targetInfos"] if each["type"] == "page")
        page.session = page.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            page.send(f"{domain}.enable")
        yield page
    finally:
        os.close(commands)
        process.terminate()
        process.wait(timeout=30)
        os.close(answers)
