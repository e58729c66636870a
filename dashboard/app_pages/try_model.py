"""Any finished run tried on one picture, from a file or the webcam. Nothing is stored."""

import numpy as np
import streamlit as st
from starlette.formparsers import MultiPartParser

from dashboard import access, cache, charts, faces
from dashboard.runs import basis, choose, finished_or_stop
from fercore.domain import Permission
from fercore.errors import FerError
from fercore.ingest import faces_in, images

access.actor().require(Permission.READ_RESULTS)
SHOWN, FORMATS = 12, ["png", "jpg", "webp", "gif", "bmp", "tif"]
# Uploads above 1 MB would pass through a file, without a name, while they come in.
MultiPartParser.spool_max_size = images.MAX_BYTES

st.title("Try a model")
runs = finished_or_stop()
run = runs[choose(runs)]
config = run.config
assert config is not None  # a finished run has one
st.caption(basis(run))
try:
    if config.protocol == "leaky":
        leak = cache.leak(run.run_id)
        st.warning(f"It was trained on copies of its own test faces: its accuracy of {leak.leaky.percent()} is inflated"
                   + ("" if leak.inflation.value is None else f" by {leak.inflation.points()}") + ".", icon=":material/water_drop:")
        known, where = leak.clean, "test faces that it had not trained on"
    else:
        known, where = cache.evaluated(run.run_id).metrics["accuracy"], "held-out faces of its folds" if config.folds else "its own test faces"
    often = f"right on {known.percent()}, of {where}{' (drawn ones)' * cache.synthetic()}; on other pictures expect less"
except FerError as error:
    often = f"how often is not known ({access.plain(error.title)})"
st.info(f"It guesses the **perceived expression** from one picture and is often wrong: {often}. It does not read emotions and must not be used to "
        "judge people.", icon=":material/info:")

left, right = st.columns([2, 3], gap="medium")
with left:
    source = st.segmented_control("Picture from", ["File", "Webcam"], default="File", required=True, key="source", bind="query-params",
                                  label_visibility="collapsed")
    if source == "File":
        upload = st.file_uploader("Picture", FORMATS, max_upload_size=images.MAX_BYTES >> 20, label_visibility="collapsed")
    else:
        upload = st.camera_input("Picture", label_visibility="collapsed")
        st.caption("Browsers give the camera only to https addresses and to this machine's own.")
    st.caption("Pictures stay in the memory of this session; nothing is stored.")
try:
    with right, st.spinner("Loading the network", show_time=True):
        predictor = cache.predictor(run)  # while a picture is being chosen
except FerError as error:
    right.error(access.plain(str(error)), icon=":material/error:")
    st.stop()
if upload is None:
    st.stop()
try:
    picture = images.decode(upload.getvalue())[0]
except FerError as error:
    right.error(f"This picture cannot be used: {access.plain(error.title)}. Choose another one.", icon=":material/broken_image:")
    st.stop()
found = faces_in.found(picture)
with right:
    if not found:
        st.warning("No face found. The search knows faces that look into the camera.", icon=":material/search_off:")
        if st.toggle("Use the middle of the picture as a face", key=f"middle-{upload.file_id}"):
            found = [faces_in.middle(picture)]
left.html(faces.boxed(picture, [face.box for face in found]))
if not found:
    st.stop()
shares = predictor.probabilities(np.stack([face.pixels for face in found[:SHOWN]]))
with right:
    st.caption(f"The {SHOWN} largest of {len(found)} faces. " * (len(found) > SHOWN)
               + "Percentages are the network's own, not how often it is right.")
    for number, (face, share) in enumerate(zip(found, shares, strict=False), 1):
        with st.container(border=True, horizontal=True):
            st.container(width=144).html(faces.upscaled(face.pixels.tobytes(), 3))
            with st.container(width="stretch", gap="xxsmall"):
                top = int(share.argmax())
                st.markdown(f"**Face {number}** looks most like **{access.plain(charts.name_of(predictor.classes[top]))}**, {100 * share[top]:.1f} %")
                charts.draw(charts.share_bars(dict(zip(predictor.classes, share.tolist(), strict=True))), f"face-{number}", height=220)
