"""The site builds without a warning, so without a broken link, and its pages load nothing from other servers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import textclf

REPOSITORY = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("zensical", reason="needs the dependency group docs, and Python 3.11")
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(REPOSITORY / "mkdocs.yml", folder)
    shutil.copytree(REPOSITORY / "docs", folder / "docs")
    (folder / "textclf").symlink_to(REPOSITORY / "textclf")
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


def pages_of(navigation: list[object]) -> list[str]:
    """The files of a navigation, which nests lists and dicts of titles."""
    found: list[str] = []
    for entry in navigation:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            found += pages_of(value) if isinstance(value, list) else [str(value)]
    return found


def test_every_page_is_in_the_navigation_and_is_built(site: Path) -> None:
    configuration = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = pages_of(configuration["nav"])
    written = [path.relative_to(REPOSITORY / "docs").as_posix() for path in (REPOSITORY / "docs").rglob("*.md")]
    assert sorted(listed) == sorted(written)
    for page in listed:
        assert (site / page).with_suffix(".html").is_file(), page


def test_no_page_loads_anything_from_another_server(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?(https?:)?//[^\s\">]+", text)
        loaded += re.findall(r"<link\b(?![^>]*rel=\"?canonical)[^>]*\bhref=\"?(?:https?:)?//[^\s\">]+", text)
        assert loaded == [], page
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style.read_text(encoding="utf-8")), style


def test_the_python_page_has_signatures_and_no_private_names(site: Path) -> None:
    text = (site / "reference" / "python.html").read_text(encoding="utf-8")
    for name in textclf.__all__:
        assert f'id="textclf.{name}"' in text
    assert "__reduce__" not in text
