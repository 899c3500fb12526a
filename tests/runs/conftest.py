"""What the tests of pages and apps share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import Page, open_browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a tiny encoder with its data."""
    folder = tmp_path_factory.mktemp("finished") / "reviews"
    shutil.copytree(Path(__file__).parent.parent / "fixtures" / "first_version", folder)
    recipe = folder / "runs" / "reviews" / "recipe.yaml"
    recipe.write_text(recipe.read_text("utf-8").replace("/tmp/reviews", str(folder)), "utf-8")
    return recipe.parent
