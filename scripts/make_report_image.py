"""Write the README's picture of a report: the top of a real one, as Chromium shows it.

    edgedistill demo --out demo
    python scripts/make_report_image.py demo/report.html docs/images/report.png

Needs Debian's chromium and playwright.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1000, 760  # CSS pixels
COLOURS = 128  # a page of text and lines needs no more, and the file is a third as large


def picture_of(report: Path) -> bytes:
    """Return the top of a report as PNG, half again as fine as a plain screen."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=1.5)
        page.goto(report.resolve().as_uri())
        taken = page.screenshot()
        browser.close()
    return taken


def write_image(report: Path, file: Path) -> None:
    """Write the picture with few colours."""
    image = Image.open(io.BytesIO(picture_of(report))).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file, optimize=True)


if __name__ == "__main__":
    write_image(Path(sys.argv[1]), Path(sys.argv[2]))
