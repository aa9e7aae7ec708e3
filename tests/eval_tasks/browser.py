"""Headless Chromium, spoken to over pipes in its own protocol (DevTools): no driver, no port."""

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-extensions", "--disable-component-update", "--hide-scrollbars", "--remote-debugging-pipe",
]

# Chromium reads commands from descriptor 3 and answers on 4
WITH_PIPES = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
os.dup2(ends[0], 3); os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Page:
    """One page. `js` runs a line in it; `events` holds what the browser said, requests and errors too."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._out, self._in = to_browser, from_browser
        self._buffer, self._count, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")

    def open(self, path: Path, fragment: str = "") -> None:
        """Open a file and wait until it has run."""
        self._go("about:blank")  # else a new fragment alone would not load the page again
        self._go(path.resolve().as_uri() + fragment)

    def _go(self, url: str) -> None:
        seen = len(self.events)
        self._call("Page.navigate", url=url)
        while not any(e["method"] == "Page.loadEventFired" for e in self.events[seen:]):
            self._read()

    def js(self, line: str) -> Any:
        """The value of a JavaScript expression, promises awaited. Raises AssertionError where it throws."""
        found = self._call("Runtime.evaluate", expression=line, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def settle(self) -> None:
        """Wait until what was set off (a change of address) has been drawn."""
        self.js("new Promise(done => setTimeout(() => requestAnimationFrame(() => done(1)), 0))")

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press and release a key."""
        common = {"key": key, "windowsVirtualKeyCode": code, "code": key}
        self._call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self._call("Input.dispatchKeyEvent", type="keyUp", **common)
        self.settle()

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self._call("Input.insertText", text=text)
        self.settle()

    def size(self, width: int, height: int) -> None:
        """Set the window's size; below 600 a phone's."""
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def screenshot(self, path: Path) -> None:
        """Write a picture of the window."""
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot")["data"]))

    def said(self, method: str) -> list[dict[str, Any]]:
        """The parameters of every event called `method`."""
        return [e["params"] for e in self.events if e["method"] == method]

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return dict(answer["result"])

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            piece = os.read(self._in, 1 << 20)
            assert piece, "the browser is gone"
            self._buffer += piece
        first, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(first)
        if "method" in message:
            self.events.append(message)
        return message


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A page in a fresh Chromium, which is ended afterwards."""
    assert CHROMIUM is not None
    to_us, from_browser = os.pipe()
    from_us, to_browser = os.pipe()
    start = [sys.executable, "-c", WITH_PIPES, str(from_us), str(from_browser)]
    process = subprocess.Popen(
        [*start, CHROMIUM, *FLAGS, f"--user-data-dir={profile}"],
        pass_fds=(from_us, from_browser), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    os.close(from_us)
    os.close(from_browser)
    try:
        yield Page(to_browser, to_us)
    finally:
        os.close(to_browser)  # the browser ends when its pipe does
        os.close(to_us)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
