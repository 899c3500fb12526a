"""The names of the package `textclf`: loaded when they are used, one for each command."""

from __future__ import annotations

import inspect
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import textclf
from tests.tiny import write_reviews
from textclf.cli.group import cli


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("public")
    write_reviews(folder / "train.csv", 60)
    path = folder / "reviews.yaml"
    path.write_text(
        "name: reviews\ndataset: {train: train.csv, text: review, label: mood}\nencoder: average-words\n"
        "training: {epochs: 1}\n"
    )
    return path


@pytest.fixture(scope="module")
def run(recipe: Path) -> textclf.Run:
    return textclf.train(recipe, recipe.parent / "run", quiet=True)


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, textclf; heavy = ('tensorflow', 'numpy', 'pandas', 'pydantic', 'textclf.')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_command_has_a_public_function():
    twins = {name: {"answer": "answer_file", "classify": "classify_file", "evaluate": "evaluate_file", "encoder": "load_encoder",
                    "new": "new_recipe", "examples": "list_examples", "runs": "list_runs"}.get(name, name)
             for name in cli.commands if name != "model-maker"}  # fmt: skip
    assert set(twins.values()) <= set(textclf.__all__)


@pytest.mark.parametrize("name", sorted(textclf.__all__))
def test_public_functions_are_documented_and_typed(name):
    public = getattr(textclf, name)
    assert inspect.getdoc(public)
    if inspect.isfunction(public):
        parameters = inspect.signature(public).parameters
        assert all(parameter.annotation is not inspect.Parameter.empty for parameter in parameters.values())
        assert inspect.signature(public).return_annotation is not inspect.Signature.empty


def test_a_name_stays_what_it_is_whichever_modules_are_loaded_first():
    code = (
        "import importlib, pkgutil, textclf\n"
        "for module in pkgutil.walk_packages(textclf.__path__, 'textclf.'):\n"
        "    assert not hasattr(textclf, module.name) and module.name.split('.')[1] not in textclf.__all__, module.name\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_recipe_is_checked_by_its_path_or_as_it_was_loaded(recipe):
    by_path = textclf.check(recipe, ["training.epochs=2"])
    loaded = textclf.check(textclf.load_recipe(recipe))
    assert by_path.rows == loaded.rows
    assert (by_path.recipe, loaded.recipe) == (str(recipe), "reviews")
    with pytest.raises(textclf.TextclfError, match="overrides are given with a Recipe; pass them to load_recipe"):
        textclf.check(textclf.load_recipe(recipe), ["training.epochs=2"])


def test_a_trained_run_is_inspected_verified_and_exported_by_paths_as_text(run):
    folder = str(run.dir)
    assert textclf.inspect(folder).labels == ["bad", "good"]
    assert textclf.inspect(folder) == textclf.inspect(run.model_path)
    report = textclf.verify(folder, run=folder, consumers=())
    assert report.problems == []
    assert report.parity is not None
    path, exported = textclf.export(folder, ["quantization=none"], f"{folder}/plain.tflite")
    assert path == run.dir / "plain.tflite"
    assert exported.problems == []
    assert textclf.inspect(path).weight_types.keys() <= {"float32", "int32"}


def test_the_package_tells_type_checkers_that_it_is_typed():
    assert (Path(textclf.__file__).parent / "py.typed").is_file()
    assert typing.get_type_hints(textclf.verify)["return"] is textclf.VerificationReport
    assert typing.get_type_hints(textclf.train)["return"] is textclf.Run
    assert typing.get_type_hints(textclf.evaluate_file)["return"] is textclf.FileMetrics
