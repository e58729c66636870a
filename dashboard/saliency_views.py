"""Which pixels a prediction hangs on: maps of one face, or averaged over a class. They are made beside the page, which never waits for them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import access, cache, charts, faces, tasks
from fercore.domain import SIDE, Permission, Person

PATCHES = {4: "4 x 4 pixels", 8: "8 x 8 pixels", 2: "2 x 2 pixels", 1: "pixel by pixel (slow)"}
_METHOD = ("Occlusion: how much less probable the class is when a square is blackened. Integrated gradients: the share of each pixel in the "
           "difference from a black picture. Vermillion speaks for the class, blue against it. Both say what the network used, not why a person "
           "sees an expression.")


def _patch() -> int:
    return st.selectbox("Occluded at a time", list(PATCHES), format_func=PATCHES.__getitem__, key="patch", bind="query-params", width=220)


def _asked_for(kind: str, title: str, button: str, person: Person, work: Callable[[tasks.Progress], Any]) -> Any:
    """What `work` gave; None, with a button to begin it, until somebody has asked for it and it is there."""
    if (done := tasks.shown(kind)) is None:
        if not tasks.running(kind) and st.button(button, type="primary", icon=":material/frame_inspect:"):
            tasks.start(kind, title, person, work, Permission.READ_RESULTS)
            st.rerun()
        return None
    if done.result is None:  # an error, which is shown, or cancelled
        tasks.dismiss(kind)
    return done.result


def face(person: Person, run_id: str, frame: pd.DataFrame, sample_id: str | None) -> None:
    """The maps of one predicted face, once somebody has asked for them."""
    row = frame[frame["sample_id"] == sample_id]
    if row.empty:
        st.info("Select a face to see which pixels its prediction hangs on." if sample_id is None else "The run did not predict the face of this "
                "link.", icon=":material/touch_app:")
        return
    shown, found = cache.by_ids(person, (str(sample_id),)), row.iloc[0]
    pixels = bytes(shown["gray48"].iloc[0])
    with st.container(horizontal=True):
        st.container(width=144).html(faces.upscaled(pixels, 3))
        with st.container(gap="xxsmall"):
            st.markdown(f"Predicted **{charts.name_of(found['predicted'])}**, {100 * found['confidence']:.1f} %")
            st.markdown(f"Labelled {charts.name_of(found['label'])}, {100 * found['p_' + found['label']]:.1f} %")
            patch = _patch()
    kind = f"saliency-{run_id}-{sample_id}-{patch}"
    root = cache.workspace()

    def work(progress: tasks.Progress) -> object:
        from fercore.evaluation import saliency  # torch takes seconds

        cache.few_threads()
        progress("Loading the network", 0.05)
        return saliency.of_faces(root, run_id, [str(sample_id)], patch=patch, progress=lambda share: progress("Looking at the face", share))

    if (maps := _asked_for(kind, "Saliency", "Show where the network looks", person, work)) is None:
        return
    _maps(np.frombuffer(pixels, np.uint8).reshape(SIDE, SIDE), maps.occlusion[0], maps.gradients[0], kind)
    st.caption(f"P({charts.name_of(maps.target[0])}) = {100 * maps.probability[0]:.1f} % on the face, {100 * maps.black[0]:.1f} % on a black "
               f"picture. {_METHOD}")


def average(person: Person, run_id: str, classes: list[str]) -> None:
    """The mean maps of faces labelled and predicted as one class."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        class_id = st.selectbox("Class", classes, format_func=charts.name_of, key="class", bind="query-params", width=220)
        patch = _patch()
    kind = f"saliency-{run_id}-{class_id}-{patch}"
    root = cache.workspace()

    def work(progress: tasks.Progress) -> object:
        from fercore.evaluation import saliency

        cache.few_threads()
        found = saliency.of_class(root, run_id, class_id, patch=patch, progress=lambda share: progress("Looking at faces", share))
        return (*found.mean(), len(found.sample_ids))

    if (made := _asked_for(kind, "Saliency of a class", "Average over 50 faces", person, work)) is None:
        return
    occlusion, gradients, n = made
    _maps(None, occlusion, gradients, kind)
    st.caption(f"Mean over n = {n} faces labelled and predicted {access.plain(charts.name_of(class_id))}, drawn at random, by models that had not "
               f"trained on them. {_METHOD}")


def _maps(picture: np.ndarray | None, occlusion: np.ndarray, gradients: np.ndarray, key: str) -> None:
    for column, title, values in zip(st.columns(2), ("Occlusion", "Integrated gradients"), (occlusion, gradients), strict=True):
        with column:
            st.markdown(f"**{title}**")
            charts.draw(charts.saliency(picture, values), f"{title}-{key}", height=290 if picture is not None else 420, picture="PNG")
