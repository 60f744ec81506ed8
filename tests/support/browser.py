"""Chromium without a window, driven through its DevTools protocol by the standard library alone."""

import base64
import json
import os
import secrets
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import urllib.parse
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


def program() -> str | None:
    """The path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Socket:
    """The client of a web socket: text messages, one at a time."""

    def __init__(self, address: str) -> None:
        parts = urllib.parse.urlsplit(address)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=60)
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        self.socket.sendall(
            f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.pending = b""
        while b"\r\n\r\n" not in self.pending:
            self.pending += self.socket.recv(65536)
        head, _, self.pending = self.pending.partition(b"\r\n\r\n")
        assert b" 101 " in head.splitlines()[0], head

    def send(self, text: str) -> None:
        data, mask = text.encode(), secrets.token_bytes(4)
        size = len(data)
        if size < 126:
            head = struct.pack("!BB", 0x81, 0x80 | size)
        elif size < 65536:
            head = struct.pack("!BBH", 0x81, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x81, 0x80 | 127, size)
        repeated = (mask * (size // 4 + 1))[:size]
        mixed = int.from_bytes(data, "big") ^ int.from_bytes(repeated, "big")
        masked = mixed.to_bytes(size, "big")
        self.socket.sendall(head + mask + masked)

    def _read(self, count: int) -> bytes:
        while len(self.pending) < count:
            received = self.socket.recv(65536)
            if not received:
                raise ConnectionError("the browser has closed the connection")
            self.pending += received
        data, self.pending = self.pending[:count], self.pending[count:]
        return data

    def receive(self) -> str:
        """The next whole message; what comes in parts is put together."""
        message = b""
        while True:
            first, second = self._read(2)
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack("!H", self._read(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", self._read(8))
            data = self._read(size)
            if first & 0x0F in (0, 1, 2):
                message += data
                if first & 0x80:
                    return message.decode()


class Browser:
    """A Chromium with one page.

    Attributes:
        events: what the page has reported: console messages, exceptions, requests.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="browser-"))
        path = program()
        assert path is not None
        self.process = subprocess.Popen(
            [path, *FLAGS, f"--user-data-dir={self.folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(self.folder)},
        )
        file = self.folder / "DevToolsActivePort"
        end = time.monotonic() + 60
        while not (file.exists() and len(file.read_text().splitlines()) == 2):
            assert self.process.poll() is None, "Chromium has ended"
            assert time.monotonic() < end, "Chromium does not answer"
            time.sleep(0.05)
        port, address = file.read_text().splitlines()
        self.socket = Socket(f"ws://127.0.0.1:{port}{address}")
        self.number = 0
        self.session = ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        """Call a method of the protocol; events that come meanwhile are kept."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.socket.send(json.dumps(message))
        while True:
            answer = json.loads(self.socket.receive())
            if answer.get("id") == self.number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            if "method" in answer:
                self.events.append(answer)

    def open(self, path: Path, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """Load a file and wait until its script says that it is ready."""
        self.events.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media="", features=[scheme])
        self.call("Page.navigate", url=path.resolve().as_uri())
        end = time.monotonic() + 60
        while not self.run("document.readyState === 'complete' && !!document.body.dataset.ready"):
            assert time.monotonic() < end, f"{path} is not ready"
            time.sleep(0.02)

    def run(self, expression: str) -> Any:
        """The value of an expression of JavaScript in the page."""
        result = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """Press a key."""
        own = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        text = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **own, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **own)

    def click(self, selector: str, share: tuple[float, float] = (0.5, 0.5)) -> None:
        """Click on an element, in the middle of its box."""
        x, y = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); "
            "e.scrollIntoView({block: 'center', inline: 'center'});"
            "const r = e.getBoundingClientRect();"
            f"return [r.x + r.width * {share[0]}, r.y + r.height * {share[1]}]; }})()"
        )
        own = {"x": x, "y": y, "button": "left", "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type="mousePressed", **own)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", **own)

    def screenshot(self, path: Path, whole: bool = True) -> None:
        """Save a picture of the page."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(data["data"]))

    def errors(self) -> list[str]:
        """Exceptions, and messages of the console that are errors or warnings."""
        wanted = {"Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"}
        return [json.dumps(event) for event in self.events if event["method"] in wanted]

    def requests(self) -> list[str]:
        """The addresses that were asked for."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def close(self) -> None:
        """End the browser."""
        self.session = ""
        self.socket.send(json.dumps({"id": 0, "method": "Browser.close", "params": {}}))
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
