"""The HTML report in a browser: at phone and desktop widths the page never scrolls sideways."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.reported_runs import make_run, paper_runs
from trainer.report import write_report

CHROMIUM = shutil.which("chromium")
FRAME = """
<iframe id="f" src="out/report.html" style="border:0;width:{width}px;height:900px"></iframe>
<script>f.onload = () => {{
  const page = f.contentDocument.documentElement;
  const tables = [...page.querySelectorAll(".scroll")];
  const wide = tables.filter(table => table.scrollWidth > table.clientWidth).length;
  document.title = `${{page.clientWidth}} ${{page.scrollWidth}} ${{wide}}`;
}}</script>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_does_not_scroll_sideways_but_its_tables_do(tmp_path: Path, width: int) -> None:
    long = make_run(tmp_path / "long", "mel", {1: 70.0}, warnings=("x" * 300,), mixup=0.2)
    write_report([*paper_runs(), long], tmp_path / "out")
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(width=width))
    access = "--allow-file-access-from-files"
    flags = [access, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    page = subprocess.run(
        [
            str(CHROMIUM),
            *flags,
            f"--user-data-dir={tmp_path / 'profile'}",
            "--dump-dom",
            frame.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    found = re.search(r"<title>(\d+) (\d+) (\d+)</title>", page)
    assert found, page[:500]
    inner, needed, scrolling = map(int, found.groups())
    assert (inner, needed) == (width, width)
    assert (scrolling > 0) == (width == 390)
