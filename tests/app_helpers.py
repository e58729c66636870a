"""The dashboard under AppTest."""

from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

APP = str(Path(__file__).parents[1] / "dashboard" / "app.py")


def app_as(person_id: str, page: str = "", **query: str) -> AppTest:
    """The app with this local profile chosen, on its first page or on `page`."""
    at = AppTest.from_file(APP, default_timeout=60)
    for key, value in query.items():
        at.query_params[key] = value
    at.run()
    at.button(key=f"profile-{person_id}").click().run()
    if page:
        at.switch_page(f"app_pages/{page}.py").run()
    assert not at.exception, at.exception
    return at


def text(at: Any) -> str:
    """Everything a person reads on the page."""
    parts = [e.value for kind in (at.title, at.subheader, at.markdown, at.caption, at.info, at.error, at.warning, at.success) for e in kind]
    return "\n".join(map(str, parts))
