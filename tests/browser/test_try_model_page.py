"""The page Try a model in a browser: a picture gives boxes and probabilities, a hostile file its reason, and the run stays after a reload."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from browser_harness import ROOT, Server
from playwright.sync_api import Page, expect

from fercore.demo_faces import draw_demo
from fercore.domain import Pixels
from fercore.ingest import faces_in
from fercore.training.rundir import read_config


def portrait() -> Pixels:
    """A drawn face on a gray picture of 600 x 400 pixels."""
    drawn = draw_demo(100, 7)
    picture = np.full((400, 600), 128, np.uint8)
    picture[60:300, 200:440] = cv2.resize(drawn.pixels[drawn.truth["problem"].tolist().index("none")], (240, 240), interpolation=cv2.INTER_CUBIC)
    return picture


def test_a_picture_gets_probabilities_and_a_hostile_file_its_reason(page: Page, serve: Callable[..., Server], demo_workspace: Path) -> None:
    run = next(r.name for r in (demo_workspace / "runs").iterdir() if r.name[0] != "." and read_config(r).folds)
    picture = portrait()
    server = serve(ROOT / "dashboard/app.py", env={"FERCORE_WORKSPACE": str(demo_workspace)})
    page.context.add_cookies([{"name": "fercore_profile", "value": "ada-demo", "url": server.url}])
    page.goto(f"{server.url}/try_model?run={run}")
    expect(page.get_by_text("must not be used to judge people")).to_be_visible()
    upload = page.get_by_test_id("stFileUploader").locator("input")
    upload.set_input_files({"name": "face.png", "mimeType": "image/png", "buffer": cv2.imencode(".png", picture)[1].tobytes()})
    expect(page.get_by_text("Face 1 looks most like")).to_be_visible()
    expect(page.get_by_alt_text("the picture, faces marked: 1")).to_be_visible()
    image, box = (page.get_by_test_id("stHtml").locator(f"div:has(> img) > {tag}").first.bounding_box() for tag in ("img", "div"))
    assert image and box
    left, top, right, _ = faces_in.found(picture)[0].box
    at = [(box["x"] - image["x"]) / image["width"], (box["y"] - image["y"]) / image["height"], box["width"] / image["width"]]
    assert np.allclose(at, [left / 600, top / 400, (right - left) / 600], atol=0.01)
    chart = page.get_by_test_id("stPlotlyChart").locator("svg.main-svg").first
    expect(chart).to_contain_text("Surprise")
    texts = page.locator("g.bars text.bartext").all_text_contents()
    assert len(texts) == 7 and abs(sum(float(t.removesuffix(" %")) for t in texts) - 100) < 0.5
    upload.set_input_files({"name": "<img src=x onerror=alert(1)>.png", "mimeType": "image/png", "buffer": b"\x89PNG\r\n\x1a\n<script>"})
    expect(page.get_by_text("This picture cannot be used: not a picture of a known format")).to_be_visible()
    expect(page.get_by_text("looks most like")).to_have_count(0)
    page.reload()
    expect(page.get_by_text("held-out faces of its folds")).to_be_visible()
    assert run in page.url
