"""A headless Chromium, driven by chromedriver's own protocol (W3C WebDriver), which needs no package."""

import base64
import http.client
import json
import re
import shutil
import subprocess
import time
from contextlib import contextmanager

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = (
    "" if CHROMIUM and DRIVER else "chromium and chromedriver are not installed (Debian: chromium chromium-driver)"
)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key that the standard gives to references to elements
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
KEYS = {"Tab": "\ue004", "Escape": "\ue00c", "Left": "\ue012", "Up": "\ue013", "Right": "\ue014", "Down": "\ue015"}


class Browser:
    """One window of a session."""

    def __init__(self, port, session):
        self._port, self._path = port, f"/session/{session}"

    def command(self, method, path, body=None):
        return call(self._port, method, self._path + path, body)

    def open(self, url):
        self.command("POST", "/url", {"url": url})

    def find(self, selector):
        return self.command("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]

    def find_all(self, selector):
        found = self.command("POST", "/elements", {"using": "css selector", "value": selector})
        return [element[ELEMENT] for element in found]

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def label(self, element):
        """The accessible name."""
        return self.command("GET", f"/element/{element}/computedlabel")

    def role(self, element):
        return self.command("GET", f"/element/{element}/computedrole")

    def click(self, selector):
        self.command("POST", f"/element/{self.find(selector)}/click", {})

    def send(self, selector, text):
        """Type into an element, or give a file to an input."""
        self.command("POST", f"/element/{self.find(selector)}/value", {"text": text})

    def press(self, *names):
        """Press keys one after the other, wherever the focus is."""
        keys = [KEYS.get(name, name) for name in names]
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.command("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def point(self, selector, x, y, *, click=False):
        """Move the pointer to a place in an element, as shares of its width and height from its middle."""
        box = self.run(
            "const b = document.querySelector(arguments[0]).getBoundingClientRect(); return [b.width, b.height]",
            selector,
        )
        move = {"type": "pointerMove", "duration": 0, "origin": {ELEMENT: self.find(selector)}}
        actions = [{**move, "x": round(x * box[0]), "y": round(y * box[1])}]
        if click:
            actions += [{"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        self.command("POST", "/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": actions}]})

    def run(self, script, *arguments):
        return self.command("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def devtools(self, name, **parameters):
        return self.command("POST", "/goog/cdp/execute", {"cmd": name, "params": parameters})

    def screen(self, width, height, *, dark=False, phone=False, still=True):
        """Set the size of the screen and what the visitor prefers."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        self.devtools("Emulation.setTouchEmulationEnabled", enabled=phone)
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"},
        ]
        self.devtools("Emulation.setEmulatedMedia", features=features)

    def picture(self, *, whole=True):
        """A screenshot as the bytes of a PNG, of the whole page or of what is seen of it."""
        shot = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(shot["data"])

    def wait(self, script, *arguments, seconds=60):
        """Wait until a script returns something true, and return it."""
        end = time.monotonic() + seconds
        while not (result := self.run(script, *arguments)):
            if time.monotonic() > end:
                raise TimeoutError(f"never true: {script}; the page says {self.text('#error-text')!r}")
            time.sleep(0.02)
        return result

    def complaints(self):
        """Errors on the console, such as what the page's security policy forbids."""
        entries = self.command("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]


def call(port, method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        value = json.loads(connection.getresponse().read())["value"]
    finally:
        connection.close()
    if isinstance(value, dict) and "error" in value:
        raise RuntimeError(f"{method} {path}: {value['error']}: {value['message']}")
    return value


@contextmanager
def browser(profile):
    """Start a browser with a new profile in a folder; it ends with the block."""
    with subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as driver:
        try:
            port = next(
                int(found[1]) for line in driver.stdout if (found := re.search(r"successfully on port (\d+)", line))
            )
            options = {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={profile}"]}
            capabilities = {
                "browserName": "chrome",
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL"},
            }
            session = call(port, "POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})["sessionId"]
            try:
                yield Browser(port, session)
            finally:
                call(port, "DELETE", f"/session/{session}")
        finally:
            driver.terminate()
