"""The example recipes: listed and copied from a checkout and from an installed package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import textclf
from tests.command import run
from tests.conftest import REPOSITORY

NAMES = ["app_reviews", "faq_match", "guest_feedback", "shop_help", "support_tickets"]


def test_the_examples_say_what_they_show_and_how_large_they_are():
    examples = {example.name: example for example in textclf.list_examples()}
    assert list(examples) == NAMES
    pair = examples["faq_match"]
    assert (pair.rows, pair.labels, pair.text) == (527, ("no", "yes"), ("question", "faq"))
    answers = examples["shop_help"]
    assert (answers.rows, answers.labels, answers.text) == (1042, (), ("question", "context"))
    topics = examples["guest_feedback"]
    assert (topics.rows, len(topics.labels), topics.labels[0], topics.text) == (150, 8, "breakfast", ("feedback",))
    assert examples["app_reviews"].about == "Is an app review negative, neutral or positive?"
    assert all("two cores" in example.time for example in examples.values())


def test_the_command_lists_them_and_the_schema(capsys):
    assert run("examples") == 0
    said = capsys.readouterr().out
    assert (
        "app_reviews\n  Is an app review negative, neutral or positive?\n  587 rows, 3 labels: negative, neutral"
        in said
    )
    schema = Path(said.rstrip("\n").rpartition(": ")[2])
    assert schema == REPOSITORY / "docs" / "recipe.schema.json"


@pytest.mark.parametrize("name", NAMES)
def test_a_copied_example_runs_unchanged(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    recipe = textclf.copy_example(name)
    assert recipe == Path("recipes") / f"{name}.yaml"
    assert recipe.read_bytes() == (REPOSITORY / recipe).read_bytes()
    report = textclf.check(recipe)
    assert report.labels or name == "shop_help"
    assert textclf.load_recipe(recipe).dataset.train.is_relative_to(tmp_path.resolve())


def test_the_copy_of_support_tickets_has_both_test_files_and_is_tested_on_the_blind_one(tmp_path):
    recipe = textclf.copy_example("support_tickets", tmp_path)
    tables = {path.name for path in (tmp_path / "datasets").glob("*.csv")}
    assert tables == {"support_tickets.csv", "support_tickets_test.csv", "support_tickets_blind.csv"}
    assert textclf.load_recipe(recipe).dataset.test == tmp_path / "datasets" / "support_tickets_blind.csv"
    assert sum(textclf.check(recipe).rows["test"].values()) == 432


def test_nothing_is_overwritten_and_equal_files_may_be_there(tmp_path, capsys):
    assert run("examples", "copy", "app-reviews", tmp_path / "new") == 0
    assert capsys.readouterr().out.endswith(f"Train with: textclf train {tmp_path}/new/recipes/app_reviews.yaml\n")
    assert run("examples", "copy", "app_reviews", tmp_path / "new") == 0
    changed = tmp_path / "new" / "datasets" / "app_reviews.csv"
    changed.write_text("mine")
    (tmp_path / "new" / "recipes" / "app_reviews.yaml").unlink()
    capsys.readouterr()
    assert run("examples", "copy", "app_reviews", tmp_path / "new") == 2
    assert "app_reviews.csv: exists already with another content; copy to another folder" in capsys.readouterr().err
    assert changed.read_text() == "mine"
    assert not (tmp_path / "new" / "recipes" / "app_reviews.yaml").exists()


def test_an_unknown_example_is_answered_with_the_nearest(capsys):
    assert run("examples", "copy", "app_revews") == 2
    assert capsys.readouterr().err == "Error: app_revews: there is no such example; did you mean app_reviews?\n"


def test_a_built_package_contains_the_examples_and_the_schema(tmp_path):
    pytest.importorskip("setuptools")
    source, built = tmp_path / "source", tmp_path / "built"
    for folder in ("textclf", "recipes", "datasets", "docs"):
        shutil.copytree(REPOSITORY / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(REPOSITORY / file, source / file)
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(built)],
        cwd=source,
        check=True,
        capture_output=True,
    )
    shutil.rmtree(source)
    examples = built / "textclf" / "examples"
    for path in (
        "recipes/faq_match.yaml",
        "datasets/faq_match.csv",
        "datasets/support_tickets_blind.csv",
        "datasets/README.md",
    ):
        assert (examples / path).read_bytes() == (REPOSITORY / path).read_bytes()
    schema = REPOSITORY / "docs" / "recipe.schema.json"
    assert (examples / "recipe.schema.json").read_bytes() == schema.read_bytes()
    others = [path for path in sys.path if path and Path(path).resolve() != REPOSITORY]
    code = "import textclf; print(textclf.__file__, textclf.copy_example('faq_match', 'copied'), len(textclf.list_examples()))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(built), *others])}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(built / "textclf" / "__init__.py"), "copied/recipes/faq_match.yaml", "5"]
    assert (tmp_path / "copied" / "datasets" / "faq_match_test.csv").is_file()
