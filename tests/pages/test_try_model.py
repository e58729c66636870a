"""The page Try a model with AppTest: pictures with one face, many and none, hostile ones, runs of every kind, and that nothing is kept."""

import asyncio
import io
import json
import os
import shutil
import zlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from app_helpers import app_as, text
from PIL import Image
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartParser
from streamlit.testing.v1 import AppTest

from dashboard import cache
from fercore.demo_faces import draw_demo
from fercore.domain import Pixels
from fercore.ingest import images
from fercore.store import Store
from fercore.training import ensemble, predict
from fercore.training.rundir import read_config, write_model


@pytest.fixture(scope="module")
def face() -> Pixels:
    drawn = draw_demo(100, 7)
    return drawn.pixels[drawn.truth["problem"].tolist().index("none")]


def run_of(workspace: Path, *, folds: bool = False) -> Path:
    return next(r for r in sorted((workspace / "runs").iterdir()) if r.name[0] != "." and bool(read_config(r).folds) is folds)


def copied(run: Path, name: str, **changes: object) -> Path:
    """Another run that differs in its settings."""
    other = run.with_name(name)
    shutil.copytree(run, other)
    write_model(other / "config.json", read_config(run).model_copy(update={"run_id": name, **changes}))
    return other


def png(picture: Pixels) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()


def given(at: AppTest, data: bytes, name: str = "picture.png") -> AppTest:
    at.file_uploader[0].set_value((name, data, "image/png")).run()
    assert not at.exception, at.exception
    return at


def bars(at: AppTest) -> list[dict[str, float]]:
    """What the charts show: name -> percent."""
    found = [json.loads(chart.proto.spec)["data"][0] for chart in at.get("plotly_chart")]
    return [dict(zip(bar["y"], (float(t.removesuffix(" %")) for t in bar["text"]), strict=True)) for bar in found]


def test_without_a_finished_run_the_page_says_what_is_missing(peopled: Store) -> None:
    at = app_as("dana", "try_model")
    assert "No finished run yet" in text(at) and not at.file_uploader and at.get("page_link")


def test_an_annotator_may_not_open_it(peopled: Store) -> None:
    at = app_as("ann", "try_model")
    assert "You may not read results" in text(at) and not at.file_uploader


def test_a_face_gets_the_probabilities_of_the_run_that_the_address_names(demo: Path, face: Pixels) -> None:
    for run in (run_of(demo), run_of(demo, folds=True)):
        at = app_as("rosa-demo", "try_model", run=run.name)
        assert "perceived expression" in text(at) and "must not be used to judge people" in text(at) and "nothing is stored" in text(at)
        accuracy = cache.evaluated(run.name).metrics["accuracy"].percent()
        assert accuracy in text(at) and "[" in accuracy and ("held-out faces of its folds" if read_config(run).folds else "its own test") in text(at)
        given(at, png(face))
        known = predict.load(run)
        expected = known.probabilities(face[None])[0]
        shown, = bars(at)
        assert list(shown.values()) == [float(f"{100 * p:.1f}") for p in expected] and [n.lower() for n in shown] == list(known.classes)
        top = max(shown, key=shown.__getitem__)
        assert f"**Face 1** looks most like **{top}**, {shown[top]:.1f} %" in text(at)
        assert at.query_params["run"] == run.name


def test_many_faces_are_marked_and_the_twelve_largest_answered(demo: Path, face: Pixels) -> None:
    tile = cv2.copyMakeBorder(cv2.resize(face, (96, 96), interpolation=cv2.INTER_CUBIC), 20, 20, 20, 20, cv2.BORDER_CONSTANT, value=128)
    at = given(app_as("rosa-demo", "try_model"), png(np.tile(tile, (3, 5))))
    drawn = "".join(h.proto.body for h in at.get("html"))
    assert len(bars(at)) == 12 and "The 12 largest of 15 faces" in text(at) and "faces marked: 15" in drawn and ">15</span>" in drawn


def test_without_a_face_the_middle_can_be_taken(demo: Path) -> None:
    ramp = np.tile(np.arange(200, dtype=np.uint8), (100, 1))
    at = given(app_as("rosa-demo", "try_model"), png(ramp))
    assert "No face found" in text(at) and not bars(at)
    at.toggle[0].set_value(True).run()
    assert not at.exception and len(bars(at)) == 1
    expected = predict.load(run_of(demo)).probabilities(np.stack([images.standard(ramp[:, 50:150], images.Method())]))[0]
    assert list(bars(at)[0].values()) == [float(f"{100 * p:.1f}") for p in expected]
    given(at, png(ramp[::-1, ::-1].copy()))
    assert not at.toggle[0].value  # another picture is asked about anew


def bomb() -> bytes:
    """A PNG that says it has 9,000 x 9,000 pixels."""
    data = bytearray(png(np.zeros((2, 2), np.uint8)))
    data[16:24] = (9_000).to_bytes(4) * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4)
    return bytes(data)


@pytest.mark.parametrize(("data", "reason"), [
    (b"", "the file is empty"), (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "not a picture of a known format"),
    (bomb(), "9,000 x 9,000 pixels"), (png(np.zeros((90, 90), np.uint8))[:-30], "damaged"), (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not a picture")])
def test_a_hostile_or_broken_picture_is_refused_with_the_reason(demo: Path, face: Pixels, data: bytes, reason: str) -> None:
    at = given(app_as("rosa-demo", "try_model"), data, "**x** <img src=x onerror=alert(1)>.png")
    said = at.error[0].value.replace("\\", "")
    assert "This picture cannot be used" in said and reason in said and "Choose another one" in said and "Traceback" not in said
    assert not bars(at) and "onerror" not in text(at)
    assert len(bars(given(at, png(face)))) == 1


def test_weights_that_are_gone_are_told_and_taken_up_again_when_they_are_back(demo: Path, face: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    run, loads, load = run_of(demo), list[str](), predict.load
    monkeypatch.setattr(predict, "load", lambda path: loads.append(path.name) or load(path))
    weights = run / "best.safetensors"
    at = app_as("rosa-demo", "try_model", run=run.name)
    given(given(at, png(face)), png(face[:, ::-1].copy()))
    assert loads == [run.name]  # once, whatever is asked
    kept = weights.rename(demo / "kept")
    at.run()
    said = at.error[0].value.replace("\\", "")
    assert not at.exception and "The weights cannot be read" in said and "Train again" in said and not bars(at)
    kept.rename(weights)
    os.utime(weights, ns=(1, 1))
    assert len(bars(at.run())) == 1 and not at.error and len(loads) == 3


def test_an_ensemble_answers_with_the_mean_of_its_members(demo: Path, face: Pixels) -> None:
    first = run_of(demo)
    second = copied(first, "second-run")
    both = copied(first, "both-runs", **dict(ensemble.config_of(demo / "runs", [first.name, second.name])) | {"run_id": "both-runs"})
    (both / "best.safetensors").unlink()
    ensemble.predictions(demo / "runs", [first.name, second.name]).to_parquet(both / "predictions.parquet")
    at = given(app_as("rosa-demo", "try_model", run="both-runs"), png(face))
    assert "ensemble of 2 runs" in text(at)
    assert list(bars(at)[0].values()) == [float(f"{100 * p:.1f}") for p in predict.load(first).probabilities(face[None])[0]]


def test_leaky_and_exploratory_runs_are_marked(demo: Path) -> None:
    run = run_of(demo)
    leaky = copied(run, "leaky-run", protocol="leaky", balance="ros")
    share = {"k": 90, "n": 100}
    (leaky / "leak.json").write_text(json.dumps({
        "method": "ros", "accuracy": share, "share_copied": {"k": 60, "n": 100}, "share_copied_by_class": {}, "accuracy_copied": share,
        "accuracy_made": share, "accuracy_fresh": {"k": 30, "n": 50}}))
    copied(run, "exploratory-run", exploratory=True)
    said = text(app_as("rosa-demo", "try_model", run="leaky-run"))
    assert "leaky, for comparison only" in said and "trained on copies of its own test faces" in said and "inflated by +30.0 points" in said
    assert "right on 60.0 % [" in said and "test faces that it had not trained on" in said and "90.0 % [" in said
    said = text(app_as("rosa-demo", "try_model", run="exploratory-run"))
    assert "exploratory: the version was not approved" in said and "leaky" not in said


def test_the_network_takes_two_threads_at_most(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[int]()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    app_as("rosa-demo", "try_model")
    assert asked == [2]


def test_nothing_is_stored(demo: Path, face: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    at = app_as("rosa-demo", "try_model")

    def files() -> dict[str, int]:
        return {str(p): p.stat().st_mtime_ns for p in tmp_path.rglob("*")}

    before = files()
    assert len(bars(given(at, png(face)))) == 1
    assert files() == before


def parsed(body: Any) -> Any:
    """The form in `body`, read in a thread of its own: a browser test of the same process may keep an event loop in this one."""
    async def read() -> Any:
        return await MultiPartParser(Headers({"content-type": "multipart/form-data; boundary=x"}), body()).parse()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(read())).result()


def test_an_upload_comes_in_without_a_file(demo: Path) -> None:
    app_as("rosa-demo", "try_model")

    async def body() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + bytes(3 << 20) + b"\r\n--x--\r\n"

    upload = parsed(body)["file"]
    with upload.file:
        assert not upload.file._rolled and upload.size == 3 << 20
