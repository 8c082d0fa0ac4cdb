"""The drawing of an explanation, and the folder that it goes to."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgedistill_deploy import Expert, Explanation
from edgedistill_deploy.errors import NotWrittenError, UsageError
from edgedistill_deploy.prediction.heat import WhyFolder, coloured, draw, png_of
from reference.plain_experts import red_blocks, spotted


@pytest.fixture(scope="module")
def explanation(tmp_path_factory: pytest.TempPathFactory) -> Explanation:
    bundle = red_blocks(tmp_path_factory.mktemp("spots") / "bundle", (35, 35))
    with Expert(bundle, threads=1) as expert:
        return expert.explain(rgb=spotted((35, 35), (8, 8)))


def test_red_speaks_for_the_class_and_blue_against_it() -> None:
    values = np.array([[2.0, 0.0, -2.0, 1.0]], np.float32)
    grey = np.full((1, 4, 3), 100, np.uint8)
    strong, none, against, weak = coloured(values, grey)[0].astype(int)
    assert none.tolist() == [100, 100, 100]
    assert strong[0] > strong[2] > strong[1]
    assert against[2] > against[1] > against[0]
    assert 100 < weak[0] < strong[0]
    assert coloured(np.zeros((1, 4), np.float32), grey).tolist() == grey.tolist()


def test_the_drawing_shows_the_picture_framed_beside_the_map(explanation: Explanation) -> None:
    image = draw(explanation)
    scale = 7  # the least whole number that makes 35 pixels 224 or more
    assert image.size == (2 * 35 * scale + 8, 35 * scale)
    pixels = np.asarray(image).astype(int)
    seen, heat = pixels[:, : 35 * scale], pixels[:, 35 * scale + 8 :]
    assert seen[scale * 30 + 3, scale * 30 + 3].tolist() == explanation.pixels[30, 30].tolist()
    red = (heat[..., 0] - heat[..., 2]) > 60
    rows, columns = np.nonzero(red)
    assert abs(rows.mean() / scale - 8.5) < 3
    assert abs(columns.mean() / scale - 8.5) < 3
    assert explanation.region is not None
    left, top, right, bottom = (scale * side for side in explanation.region.pixels)
    assert seen[top + 1, left + 1 : right - 1].tolist() == [[255, 255, 255]] * (right - left - 2)
    assert seen[top, left:right].max() == seen[bottom - 1, left:right].max() == 0


def test_the_file_says_in_text_what_it_shows(explanation: Explanation) -> None:
    opened = Image.open(io.BytesIO(png_of(explanation)))
    assert opened.format == "PNG"
    assert opened.info["Title"].startswith("the picture: spot, ")
    assert opened.info["Description"].startswith("The upper left speaks most for spot: without it ")


def test_nothing_in_the_folder_is_replaced(explanation: Explanation, tmp_path: Path) -> None:
    folder = WhyFolder(tmp_path / "new" / "why")
    first = folder.put("photos/a.jpg", explanation)
    assert first == tmp_path / "new" / "why" / "a-why.png"
    assert folder.put("elsewhere/a.png", explanation) == first
    first.write_bytes(b"mine")
    (first.parent / "a-why-2.png").symlink_to("nowhere")
    assert folder.put("a.jpg", explanation) == first.parent / "a-why-3.png"
    assert first.read_bytes() == b"mine"
    assert not (first.parent / "nowhere").exists()
    assert folder.count == 3
    assert sorted(each.name for each in first.parent.iterdir()) == ["a-why-2.png", "a-why-3.png", "a-why.png"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "..", "CON.png", "a:b*.png", "\\x00\\x1b.png", "w" * 300])
def test_no_name_leads_out_of_the_folder(name: str, explanation: Explanation, tmp_path: Path) -> None:
    written = WhyFolder(tmp_path / "why").put(name, explanation)
    assert written.parent == tmp_path / "why"
    assert written.suffix == ".png"
    assert written.is_file()


def test_a_folder_that_cannot_be_written_is_refused(explanation: Explanation, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match=r"file is a file; name a folder for the drawings\."):
        WhyFolder(tmp_path / "file")
    folder = WhyFolder(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(NotWrittenError, match="gone"):
        folder.put("a.png", explanation)
