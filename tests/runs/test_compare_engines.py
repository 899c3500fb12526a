from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.command import run
from tests.tiny import tiny_checkpoint, write_recipe
from textclf.data.dataset import load_dataset
from textclf.errors import DataError, EngineError, ModelError, RunError
from textclf.exporting.classification.model_file import export_classifier
from textclf.files.output_folder import foreign_entries
from textclf.recipe.reading import load_recipe
from textclf.recipe.settings import Recipe
from textclf.runs.comparison import engines as comparison
from textclf.runs.comparison.engines import Comparison
from textclf.runs.comparison.engines import compare_engines as compare
from textclf.runs.comparison.folder import COMPARISON
from textclf.runs.comparison.measurement import Measurement
from textclf.runs.tasks.classification.comparing import ClassifierMeasurement
from textclf.terminal.progress import Progress
from textclf.tflite.graph.mobilebert import ClassifierWeights

_ONE = ClassifierMeasurement(
    engine="native", seed=1, total=60.0, first_step=8.0, examples_per_second=12.0, peak_mib=1500.0, accuracy=0.9,
    macro_f1=0.88, export=1.5, quantization="dynamic", bytes=25_500_000, changed_labels=2, compared_rows=100, run="runs/native-1",
)  # fmt: skip
_OTHER = replace(_ONE, engine="model-maker", first_step=80.0, examples_per_second=5.0, peak_mib=5384.0, export=73.0)


def _comparison(*measurements: Measurement) -> Comparison:
    engines = dict.fromkeys(one.engine for one in measurements)
    return Comparison(
        task="text-classification", name="reviews", split="test", rows={"train": 80, "test": 20}, max_length=128,
        measurements=list(measurements),
        latency_ms=dict.fromkeys(engines, 21.9), rows_per_second=dict.fromkeys(engines, 250.0),
        machine={"processor": "a processor", "cores": 2, "load_before": 0.1, "load_after": 1.0, "textclf": "0"},
    )  # fmt: skip


class StandIn:
    """Stands in for the runs: keeps the recipe of each and leaves a model of random weights, or a damaged one."""

    def __init__(self) -> None:
        self.recipes: list[Recipe] = []
        self.is_damaged = False
        self.is_complete = False

    def __call__(self, recipe: Recipe, engine: str, seed: int, output: Path, progress: Progress) -> Measurement:
        self.recipes.append(recipe)
        checkpoint = tiny_checkpoint()
        kernel = np.random.default_rng(seed).standard_normal((32, 2)).astype(np.float32)
        weights = ClassifierWeights(checkpoint.config, checkpoint.weights, "additive", kernel, np.zeros(2, np.float32))
        folder = output / "runs" / f"{engine}-{seed}"
        folder.mkdir(parents=True)
        content = export_classifier(recipe, weights, ["bad", "good"], checkpoint.vocabulary)
        (folder / "model.tflite").write_bytes(b"damaged" if self.is_damaged else content)
        if self.is_complete:
            (folder / "metrics.json").touch()
        return replace(_ONE, engine=engine, seed=seed, run=str(folder))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    monkeypatch.setattr(comparison, "require_environment", lambda: None)
    return StandIn()


def _recipes(folder: Path, *engines: str) -> dict[str, Recipe]:
    path = write_recipe(folder)
    return {engine: load_recipe(path, [f"training.engine={engine}"]) for engine in engines}


def test_the_table_has_a_line_for_each_measure_and_a_column_for_each_engine() -> None:
    second = replace(_ONE, seed=2, accuracy=0.8, first_step=10.0, quantization="float16")
    table = _comparison(_ONE, second, _OTHER).table()
    assert table[0] == ["", "native", "model-maker"]
    lines = {line[0]: line[1:] for line in table[1:]}
    assert lines["time to the first step"] == ["9.0 s", "80.0 s"]
    assert lines["examples per second, after the first step"] == ["12.0", "5.0"]
    assert lines["peak memory"] == ["1,500 MiB", "5,384 MiB"]
    assert lines["accuracy, test split"] == ["85.0 ± 7.1 %", "90.0 %"]
    assert lines["export"] == ["1.5 s", "73.0 s"]
    assert lines["form of model.tflite"] == ["dynamic, float16", "dynamic"]
    assert lines["model.tflite"] == ["25.50 MB", "25.50 MB"]
    assert lines["latency, 128 tokens, 1 thread"] == ["21.9 ms", "21.9 ms"]
    assert lines["labels changed by quantisation"] == ["4 of 200", "2 of 100"]


def test_the_same_table_is_written_as_markdown() -> None:
    page = _comparison(_ONE, _OTHER).as_markdown()
    assert "| measured | native | model-maker |\n| --- | ---: | ---: |\n" in page
    assert "| peak memory | 1,500 MiB | 5,384 MiB |" in page
    assert "Rows: 80 train, 20 test. Seeds: 1. a processor, 2 cores" in page


def test_every_engine_and_seed_gets_the_same_split_in_turns(tmp_path: Path, stand_in: StandIn) -> None:
    recipes = _recipes(tmp_path, "native", "model-maker")
    output = tmp_path / "compared"
    found = compare(recipes, [1, 2], output, quiet=True, measure=stand_in)
    assert [(one.engine, one.seed) for one in found.measurements] == [
        ("native", 1), ("model-maker", 1), ("model-maker", 2), ("native", 2)
    ]  # fmt: skip
    expected = load_dataset(recipes["native"].dataset, 1)
    assert len(stand_in.recipes) == 4
    for recipe in stand_in.recipes:
        files = {name: output / "data" / f"{name}.csv" for name in ("train", "validation", "test")}
        assert [getattr(recipe.dataset, name).name for name in files] == [file.name for file in files.values()]
        dataset = load_dataset(recipe.dataset.model_copy(update=files), 99)
        for split in ("train", "validation", "test"):
            assert getattr(dataset, split).texts == getattr(expected, split).texts
            assert getattr(dataset, split).labels.tolist() == getattr(expected, split).labels.tolist()
        assert dataset.labels == expected.labels
    written = json.loads((output / "comparison.json").read_text())
    assert written == {"format": "textclf-comparison", "version": 1, **json.loads(json.dumps(found.as_dict()))}
    assert set(written["latency_ms"]) == {"native", "model-maker"}
    assert (output / "comparison.md").read_text() == found.as_markdown()


def test_the_split_of_a_table_without_a_header_keeps_its_first_row(tmp_path: Path, stand_in: StandIn) -> None:
    rows = (tmp_path / "train.csv", tmp_path / "test.csv")
    path = write_recipe(tmp_path)
    for file in rows:
        file.write_text(file.read_text().partition("\n")[2])
    recipe = load_recipe(path, ["dataset.columns=[id, review, mood]"])
    compare({"native": recipe}, [1], tmp_path / "compared", quiet=True, measure=stand_in)
    [used] = stand_in.recipes
    files = {name: tmp_path / "compared" / "data" / f"{name}.csv" for name in ("train", "validation", "test")}
    found = load_dataset(used.dataset.model_copy(update=files), 1)
    expected = load_dataset(recipe.dataset, recipe.training.seed)
    assert [split.texts for split in found.splits] == [split.texts for split in expected.splits]


def test_a_comparison_that_exists_is_replaced_only_by_force_and_only_by_a_complete_one(
    tmp_path: Path, stand_in: StandIn
) -> None:
    recipes = _recipes(tmp_path, "native")
    output = tmp_path / "compared"
    compare(recipes, [1], output, quiet=True, measure=stand_in)
    with pytest.raises(RunError, match="exists already"):
        compare(recipes, [2], output, quiet=True, measure=stand_in)
    missing = recipes["native"].dataset.model_copy(update={"train": tmp_path / "missing.csv"})
    with pytest.raises(DataError, match=r"missing\.csv"):
        compare(
            {"native": recipes["native"].model_copy(update={"dataset": missing})},
            [2],
            output,
            force=True,
            quiet=True,
            measure=stand_in,
        )
    stand_in.is_damaged = True
    with pytest.raises(ModelError):
        compare(recipes, [2], output, force=True, quiet=True, measure=stand_in)
    stand_in.is_damaged = False
    assert (output / "runs" / "native-1" / "model.tflite").exists()
    assert sorted(path.name for path in tmp_path.iterdir() if "compared" in path.name) == ["compared"]
    compare(recipes, [2], output, force=True, quiet=True, measure=stand_in)
    assert [path.name for path in (output / "runs").iterdir()] == ["native-2"]


def test_a_folder_that_is_no_comparison_or_holds_other_things_is_never_replaced(
    tmp_path: Path, stand_in: StandIn
) -> None:
    recipes = _recipes(tmp_path, "native")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").touch()
    with pytest.raises(RunError, match=r"is not the folder of a comparison of textclf.*thesis\.txt.*output \(-o\)"):
        compare(recipes, [1], tmp_path / "precious", force=True, quiet=True, measure=stand_in)
    output = tmp_path / "compared"
    compare(recipes, [1], output, quiet=True, measure=stand_in)
    (output / "runs" / "native-1" / "notes.txt").touch()
    with pytest.raises(RunError, match=r"holds what textclf did not write.*runs/native-1/notes\.txt"):
        compare(recipes, [1], output, force=True, quiet=True, measure=stand_in)
    assert (tmp_path / "precious" / "thesis.txt").exists()
    assert (output / "runs" / "native-1" / "notes.txt").exists()


def test_complete_runs_of_a_comparison_that_failed_are_kept_until_told_otherwise(
    tmp_path: Path, stand_in: StandIn
) -> None:
    recipes = _recipes(tmp_path, "native")
    output = tmp_path / "compared"

    stand_in.is_damaged = stand_in.is_complete = True
    with pytest.raises(ModelError):
        compare(recipes, [1], output, quiet=True, measure=stand_in)
    stand_in.is_damaged = False
    with pytest.raises(RunError, match=r"left complete runs in .*unfinished \(native-1\)"):
        compare(recipes, [1], output, quiet=True, measure=stand_in)
    compare(recipes, [1], output, force=True, quiet=True, measure=stand_in)
    assert output.is_dir()


def test_the_whole_comparison_runs_and_its_folder_can_be_moved_and_replaced(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path, rows=60, epochs=1)
    arguments = ("compare", recipe, "--engines", "native", "-o", tmp_path / "compared")
    assert run(*arguments, "--json") == 0
    found = json.loads(capfd.readouterr().out)
    [measured] = found["measurements"]
    assert measured["run"] == "runs/native-1"
    assert 0 < measured["first_step"] < measured["total"]
    assert measured["peak_mib"] > 50
    assert found["latency_ms"]["native"] > 0
    folder = (tmp_path / "compared").rename(tmp_path / "moved")
    assert str(tmp_path) not in (folder / "comparison.json").read_text()
    again = load_recipe(folder / measured["run"] / "recipe.yaml")
    assert again.dataset.train == folder / "data" / "train.csv"
    recipes = {"native": again}
    assert not foreign_entries(folder, COMPARISON.entries)
    missing = again.dataset.model_copy(update={"train": tmp_path / "missing.csv"})
    with pytest.raises(DataError):
        compare(
            {"native": recipes["native"].model_copy(update={"dataset": missing})}, [1], folder, force=True, quiet=True
        )
    assert (folder / measured["run"] / "model.tflite").exists()


def test_a_run_that_fails_ends_the_comparison_with_its_last_words(tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path))
    (tmp_path / "encoder" / "encoder.safetensors").write_bytes(b"damaged")
    with pytest.raises(EngineError, match=r"(?s)native, seed 1.*exit code 1.*Error: .*encoder\.safetensors"):
        compare({"native": recipe}, [1], tmp_path / "compared", quiet=True)


def test_an_unknown_engine_is_told_with_those_that_are_known(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("compare", write_recipe(tmp_path), "--engines", "native,fast") == 2
    assert "'fast' is not an engine; choose from native, model-maker" in capfd.readouterr().err


def test_settings_that_model_maker_cannot_honour_are_told_before_anything_runs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path, label_smoothing=0.1)
    assert run("compare", recipe, "-o", tmp_path / "compared") == 2
    assert "recipe.yaml:15:20: training.label_smoothing is 0.1, but Model Maker" in capfd.readouterr().err
    assert not (tmp_path / "compared").exists()
