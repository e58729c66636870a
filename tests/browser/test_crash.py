"""kill -9 of the server while labels stream: nothing acknowledged is lost, nothing is doubled, each label is for the face on screen."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from browser_harness import ROOT, Server
from playwright.sync_api import Page

from fercore.domain import Workspace
from fercore.store import Store

APP = ROOT / "dashboard/app.py"
KEYS = {"a": "angry", "j": "happy", "k": "surprise", "l": "neutral", "s": "sad"}


def label(page: Page, presses: int) -> list[tuple[str, str]]:
    """Presses at about 5 a second; returns (image painted at the press, value)."""
    done = []
    for i in range(presses):
        key = list(KEYS)[i % len(KEYS)]
        page.wait_for_timeout(150)
        page.wait_for_function("ready()")
        done.append((str(page.evaluate("grid().dataset.imageId")), KEYS[key]))
        page.keyboard.press(key)
    return done


@pytest.mark.timeout(240)
def test_killing_the_server_loses_and_doubles_nothing(page: Page, serve: Callable[..., Server], demo_workspace: Path) -> None:
    environment = {"FERCORE_WORKSPACE": str(demo_workspace)}
    server = serve(APP, env=environment)
    page.context.add_cookies([{"name": "fercore_profile", "value": "kim-demo", "url": server.url}])
    page.goto(f"{server.url}/label")
    page.wait_for_function("grid()?.dataset.imageId")
    pressed: list[tuple[str, str]] = []
    for _ in range(2):
        pressed += label(page, 12)
        page.wait_for_function("+grid()?.dataset.saved > 0")
        pressed += label(page, 3)  # some of these are on their way when the server dies
        acknowledged = int(page.evaluate("+grid().dataset.saved"))
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(timeout=10)
        with Store(Workspace(demo_workspace)) as store:
            assert store.value("SELECT count(*) FROM label_events WHERE person_id = 'kim-demo'") >= acknowledged
        pressed += label(page, 5)  # the browser goes on without a server
        server = serve(APP, env=environment, port=server.port)
        page.wait_for_function("grid() && +grid().dataset.saved === +grid().dataset.made", timeout=60_000)
    page.reload()  # and so does a new tab: nothing answered comes back
    page.wait_for_function("grid()?.dataset.imageId")
    pressed += label(page, 5)
    page.wait_for_function("+grid()?.dataset.saved === 5", timeout=30_000)
    server.close()
    with Store(Workspace(demo_workspace)) as store:
        stored = store.rows("SELECT image_id, value FROM facts.label_event WHERE person_id = 'kim-demo' ORDER BY event_id")
    assert stored == pressed
    assert len({image for image, _ in pressed}) == len(pressed) == 45
