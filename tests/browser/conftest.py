"""Chromium, Streamlit servers and a slow network for browser tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser_harness import CHROMIUM, CHROMIUM_ARGS, INIT_SCRIPT, DelayProxy, Server
from playwright.sync_api import Browser, Page, expect, sync_playwright

expect.set_options(timeout=20_000)  # another test may use the other core


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("NO BROWSER TESTS RAN: chromium, chromium-browser or google-chrome is not installed (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A fresh tab with storage of its own, 1280x720. A script error in the page fails the test."""
    context = chromium.new_context(viewport={"width": 1280, "height": 720})
    context.add_init_script(INIT_SCRIPT)
    context.set_default_timeout(20_000)
    tab, errors = context.new_page(), list[str]()
    tab.on("pageerror", lambda error: errors.append(str(error)))
    yield tab
    context.close()
    assert not errors, errors


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """serve(SCRIPT, *FLAGS, env={...}, port=0) -> Server with .url; all are ended with their children when the session ends."""
    servers = list[Server]()

    def start(script: Path, *flags: str, env: dict[str, str] | None = None, port: int = 0) -> Server:
        servers.append(Server(script, tmp_path_factory.mktemp("server") / "log.txt", *flags, env=env, port=port))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def delay_proxy() -> Iterator[Callable[..., DelayProxy]]:
    """delay_proxy(URL, seconds) -> DelayProxy with .url; 40 ms each way unless told."""
    proxies = list[DelayProxy]()

    def start(url: str, delay: float = 0.04) -> DelayProxy:
        proxies.append(DelayProxy(url, delay))
        return proxies[-1]

    yield start
    for proxy in proxies:
        proxy.close()
