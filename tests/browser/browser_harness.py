"""What browser tests and benchmarks share: a Streamlit server, a slow network, and the way to Chromium."""

import os
import queue
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil
from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHROMIUM_ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
                 "--disable-component-update", "--disable-sync"]
# Finds the component inside its shadow root, and notes for every key press which face was painted at that moment.
INIT_SCRIPT = """
window.deep = (selector, node = document) => {
  const hit = node.querySelector(selector)
  if (hit) return hit
  for (const el of node.querySelectorAll('*')) if (el.shadowRoot) { const h = deep(selector, el.shadowRoot); if (h) return h }
  return null
}
window.grid = () => deep('[data-testid="label-grid"]')
// True once the painted face takes an answer (it refuses one in its first 120 ms).
window.ready = () => { const g = grid(); return !g || !g.dataset.imageId || performance.now() - g.dataset.shown > 125 }
window.pressed = []
addEventListener('keydown', e => { const g = grid(); if (g && !e.repeat) pressed.push([e.code, g.dataset.imageId]) }, true)
"""


def settled(page: Page) -> None:
    """Waits until no run of the page's script is under way."""
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]', timeout=60_000)


class Server:
    """`streamlit run SCRIPT` on a free local port, or on `port`; use as a context manager.

    Raises:
        RuntimeError: the server ended or did not answer within `deadline` seconds; its output is in the message.
    """

    def __init__(self, script: Path, log: Path, *flags: str, env: dict[str, str] | None = None, deadline: float = 60, port: int = 0) -> None:
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("127.0.0.1", port))
            self.port = s.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "streamlit", "run", str(script), "--server.port", str(self.port), "--server.address", "127.0.0.1",
                   "--server.headless", "true", "--browser.gatherUsageStats", "false", "--server.fileWatcherType", "none", *flags]
        with log.open("wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT,
                                            env=os.environ | {"PYTHONPATH": str(ROOT)} | (env or {}))
        end = time.monotonic() + deadline
        while not self._healthy():
            if self.process.poll() is not None or time.monotonic() > end:
                self.close()
                raise RuntimeError(f"{script.name} did not start:\n{log.read_text(errors='replace')}")
            time.sleep(0.1)

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def close(self) -> None:
        """Ends the server and everything that it started."""
        with suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.process.pid)
            tree = [*parent.children(recursive=True), parent]
            for process in tree:
                with suppress(psutil.NoSuchProcess):
                    process.terminate()
            for process in psutil.wait_procs(tree, timeout=5)[1]:
                process.kill()
        self.process.wait(timeout=10)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class DelayProxy:
    """Passes TCP through to `url` and holds every chunk for `delay` seconds each way; `self.url` is its own address."""

    def __init__(self, url: str, delay: float = 0.04) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._target, self._delay = (host, int(port)), delay
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets: list[socket.socket] = []
        self._down_until = 0.0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:  # closed
                return
            if time.monotonic() < self._down_until:
                near.close()
                continue
            try:
                far = socket.create_connection(self._target)
            except OSError:  # the server is down: so is the proxy, for this connection
                near.close()
                continue
            self._sockets += [near, far]
            for source, sink in ((near, far), (far, near)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                line: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
                threading.Thread(target=self._read, args=(source, line), daemon=True).start()
                threading.Thread(target=self._write, args=(sink, line), daemon=True).start()

    def _read(self, source: socket.socket, line: "queue.SimpleQueue[tuple[float, bytes]]") -> None:
        data = b"."
        while data:
            try:
                data = source.recv(65536)
            except OSError:
                data = b""
            line.put((time.monotonic() + self._delay, data))

    def _write(self, sink: socket.socket, line: "queue.SimpleQueue[tuple[float, bytes]]") -> None:
        with suppress(OSError):
            while True:
                due, data = line.get()
                time.sleep(max(0.0, due - time.monotonic()))
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)

    def cut(self, seconds: float = 0) -> None:
        """Breaks every open connection and refuses new ones for `seconds`."""
        self._down_until = time.monotonic() + seconds
        for s in self._sockets:
            with suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            s.close()
        self._sockets.clear()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
