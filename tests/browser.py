"""A headless Chromium, driven over the pipe of its DevTools protocol: https://chromedevtools.github.io/devtools-protocol/"""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run"),
    *("--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
# What it reports of a page, besides answers to calls.
PROBLEMS = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")


class Browser:
    """A browser with one page; what the page does is kept in `events`."""

    def __init__(self, profile: Path) -> None:
        theirs, self._calls = os.pipe()
        self._answers, answers = os.pipe()
        # It reads from file descriptor 3 and writes to 4.
        script = f'exec "$0" "$@" 3<&{theirs} 4>&{answers}'
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(
            ["bash", "-c", script, *command], pass_fds=(theirs, answers), stdout=quiet, stderr=quiet
        )
        os.close(theirs)
        os.close(answers)
        self._number, self._buffer, self._session = 0, b"", None
        self.events: list[dict] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """End the browser."""
        os.close(self._calls)
        os.close(self._answers)
        self._process.terminate()
        self._process.wait(timeout=30)

    def call(self, method: str, **params: object) -> dict:
        """Call a method of the protocol and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._calls, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def open(self, address: str, width: int, scheme: str) -> None:
        """Open a page at a width in CSS pixels, with a preference for `light` or `dark`."""
        self.events.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=address)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())

    def value(self, expression: str) -> object:
        """Return what an expression of JavaScript gives in the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def press(self, key: str, text: str = "", shift: bool = False) -> None:
        """Press and release a key, such as Tab, which writes a text."""
        about = {"key": key, "code": key, "text": text, "modifiers": 8 if shift else 0}
        about["windowsVirtualKeyCode"] = {"Tab": 9, "Enter": 13}.get(key, 0)
        self.call("Input.dispatchKeyEvent", type="keyDown", **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", **{**about, "text": ""})

    def write(self, text: str) -> None:
        """Write a text where the focus is."""
        self.call("Input.insertText", text=text)

    def requests(self) -> list[str]:
        """Return the addresses that the page asked for."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]

    def problems(self) -> list[dict]:
        """Return what the page left on the console, and its errors."""
        return [event for event in self.events if event.get("method") in PROBLEMS]

    def picture(self, path: Path) -> None:
        """Write a picture of the whole page."""
        taken = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(taken["data"]))

    def _read(self) -> dict:
        while b"\0" not in self._buffer:
            part = os.read(self._answers, 1 << 16)
            assert part, "the browser ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)
