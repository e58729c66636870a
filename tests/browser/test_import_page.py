"""The Import page in a browser: an archive with a hostile file is previewed, then imported; the reason and the source are there to read."""

import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from browser_harness import ROOT, Server
from helpers import some_faces
from PIL import Image
from playwright.sync_api import Page, expect

from fercore import people
from fercore.domain import Role, Workspace
from fercore.store import Store, sources


def archive(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as packed:
        for name, face in zip(("train/happy/a.png", "test/sad/b.png"), some_faces(2), strict=True):
            data = BytesIO()
            Image.fromarray(face).save(data, "PNG")
            packed.writestr(name, data.getvalue())
        packed.writestr("../../out.png", data.getvalue())
    return path


def test_an_archive_with_a_hostile_file(page: Page, serve: Callable[..., Server], tmp_path: Path) -> None:
    place = Workspace(tmp_path / "ws")
    with Store(place, create=True) as store:
        people.add(store, "Dana", Role.DATA_LEAD)
    server = serve(ROOT / "dashboard/app.py", env={"FERCORE_WORKSPACE": str(place.root)})
    page.context.add_cookies([{"name": "fercore_profile", "value": "dana", "url": server.url}])
    page.goto(f"{server.url}/import_data")
    page.get_by_role("radio", name="Folder or archive").or_(page.get_by_role("button", name="Folder or archive")).first.click()
    page.get_by_role("region", name="Folder, ZIP or TAR").locator("input").set_input_files(archive(tmp_path / "set.zip"))
    expect(page.get_by_text("set.zip")).to_be_visible()
    page.get_by_label("Name of the source").fill("My set")
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_text("3 files read, 2 added, 0 without a class, 1 rejected; nothing was written")).to_be_visible()
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_text("1 rejected", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="Look at the faces")).to_be_visible()
    # The tables are drawn on a canvas; what they say to a screen reader is what can be read here.
    rejected, listed = page.get_by_test_id("stDataFrame").nth(1), page.get_by_test_id("stDataFrame").last
    expect(rejected.locator("td", has_text="its name leads out of the archive")).to_be_attached()
    expect(listed.locator("td", has_text="my-set")).to_be_attached()
    page.reload()
    expect(page.get_by_text("3 files read, 2 added, 0 without a class, 1 rejected", exact=True)).to_be_visible()  # it stays until it is dismissed
    page.get_by_role("button", name="Dismiss").click()
    expect(page.get_by_role("button", name="Dismiss")).to_have_count(0)
    server.close()
    assert not list(tmp_path.rglob("out.png"))
    with Store(place) as store:
        assert store.rows("SELECT file_name, given_label FROM sample_files ORDER BY 1") == [("test/sad/b.png", "sad"), ("train/happy/a.png", "happy")]
        assert [p.suffix for p in sources.originals(place).iterdir()] == [".pack"]
