"""Drives a headless Chromium by its DevTools protocol, over pipes, without any further package.

with Browser() as browser:
    page = browser.open(path)
    page.hover("#plot circle")
    page.screenshot("page.png")
"""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

__all__ = ["CHROMIUM", "Browser", "Page"]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# Without a sandbox it also runs as root, as in a container. It opens only files that the tests wrote.
_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
)

_SECONDS = 180.0


class Browser:
    """A browser, as a context manager."""

    def __enter__(self) -> Self:
        assert CHROMIUM, "Chromium is required: CONTRIBUTING.md says how to install it"
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        self._folder = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        arguments = [CHROMIUM, *_OPTIONS, f"--user-data-dir={self._folder.name}", "--remote-debugging-pipe"]
        # The browser reads commands from descriptor 3 and writes answers to 4.
        script = f'exec "$@" 3<&{commands} 4>&{answers}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", *arguments],
            pass_fds=(commands, answers),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._rest, self._number, self.events = b"", 0, []
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait(_SECONDS)
        os.close(self._read)
        os.close(self._write)
        self._folder.cleanup()

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Returns the result of a command of the protocol."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def wait(self, event: str) -> None:
        """Waits for an event."""
        while not any(one["method"] == event for one in self.events):
            self._receive()

    def _receive(self) -> dict[str, Any]:
        """Returns the next message. Events are kept."""
        end = time.monotonic() + _SECONDS
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            assert ready, "Chromium does not answer"
            got = os.read(self._read, 2**20)
            assert got, "Chromium has ended"
            self._rest += got
        line, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(line)
        if "method" in message:
            self.events.append(message)
        return message

    def open(self, path: Path, *, dark: bool = False, width: int = 1100, height: int = 900) -> "Page":
        """Opens a file in a new page and waits until it is loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "Accessibility"):
            self.call(f"{domain}.enable", session)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", session, features=scheme)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", session, **size)
        self.events = []
        self.call("Page.navigate", session, url=path.resolve().as_uri())
        self.wait("Page.loadEventFired")
        return Page(self, session, path)


class Page:
    """An open page."""

    def __init__(self, browser: Browser, session: str, path: Path) -> None:
        self._browser, self._session, self._url = browser, session, path.resolve().as_uri()

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def run(self, expression: str) -> Any:
        """Returns the value of an expression of JavaScript."""
        found = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def requests(self) -> list[str]:
        """Returns the addresses that were asked for besides the page itself and what it holds."""
        self.run("new Promise(done => setTimeout(done, 200))")  # what is late
        events = [event["params"] for event in self._browser.events if event["method"] == "Network.requestWillBeSent"]
        urls = [event["request"]["url"] for event in events]
        return [url for url in urls if url != self._url and not url.startswith("data:")]

    def complaints(self) -> list[Any]:
        """Returns what the console shows: errors, refused scripts, messages."""
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [event["params"] for event in self._browser.events if event["method"] in kinds]

    def hover(self, selector: str, number: int = 0) -> None:
        """Moves the pointer to the middle of an element."""
        x, y = self._middle(selector, number)
        self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def tap(self, selector: str, number: int = 0) -> None:
        """Touches the middle of an element with a finger, and lifts it."""
        x, y = self._middle(selector, number)
        self._call("Emulation.setTouchEmulationEnabled", enabled=True)
        for kind, points in {"touchStart": [{"x": x, "y": y}], "touchEnd": []}.items():
            self._call("Input.dispatchTouchEvent", type=kind, touchPoints=points)

    def _middle(self, selector: str, number: int) -> tuple[float, float]:
        """Returns the middle of an element, in view."""
        return self.run(
            f"(() => {{ const e = document.querySelectorAll({json.dumps(selector)})[{number}];"
            "e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
            "return [(b.left + b.right) / 2, (b.top + b.bottom) / 2]; })()"
        )

    def press(self, key: str) -> None:
        """Presses a key, such as 'Tab' or 'ArrowRight'."""
        codes = {"Tab": 9, "Escape": 27, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        for kind in ("keyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key])

    def names(self, role: str) -> list[str]:
        """Returns the names that a screen reader says for all elements of a role, such as 'image'."""
        nodes = self._call("Accessibility.getFullAXTree")["nodes"]
        found = [node for node in nodes if not node["ignored"] and node["role"]["value"] == role]
        return [node.get("name", {}).get("value", "") for node in found]

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Writes a PNG file of what is seen, or of the whole page."""
        more = {}
        if whole:
            size = self._call("Page.getLayoutMetrics")["cssContentSize"]
            more = {"captureBeyondViewport": True, "clip": {**size, "scale": 1}}
        found = self._call("Page.captureScreenshot", format="png", **more)
        path.write_bytes(base64.b64decode(found["data"]))
