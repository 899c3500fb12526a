from __future__ import annotations

import csv
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.command import run
from tests.tiny import tiny_checkpoint, write_recipe, write_reviews
from textclf.classify.classifier import Classifier
from textclf.classify.metrics import accuracy_difference_interval, mcnemar_p_value
from textclf.encoders.prepare import load_recipe_data
from textclf.errors import ArgumentError, DataError, ModelError, RecipeError, RunError
from textclf.exporting.classification.model_file import export_classifier
from textclf.files.output_folder import foreign_entries
from textclf.recipe.reading import load_recipe
from textclf.recipe.writing import dump_recipe
from textclf.runs.compare import compare
from textclf.runs.comparison.folder import COMPARISON
from textclf.runs.comparison.result import RunComparison
from textclf.runs.record.metrics_file import Encoder, Export, RunMetrics
from textclf.tflite.graph.weights import ClassifierWeights


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recipe.yaml, train.csv, test.csv and the encoder."""
    folder = tmp_path_factory.mktemp("data")
    write_recipe(folder)
    return folder


@pytest.fixture
def place(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder, as the current one."""
    shutil.copytree(data, tmp_path / "here")
    recipe = (tmp_path / "here" / "recipe.yaml").read_text().replace(str(data / "encoder"), "./encoder")
    (tmp_path / "here" / "recipe.yaml").write_text(recipe)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def write_run(folder: Path, seed: int, overrides: tuple[str, ...] = ()) -> Path:
    """The folder of a run whose head holds random numbers, so that models of two seeds often disagree."""
    recipe, dataset = load_recipe_data(load_recipe("recipe.yaml", overrides))
    checkpoint = tiny_checkpoint()
    kernel = np.random.default_rng(seed).standard_normal((32, len(dataset.labels))).astype(np.float32)
    bias = np.zeros(len(dataset.labels), np.float32)
    folder.mkdir(parents=True)
    for _ in range(2):
        weights = ClassifierWeights(checkpoint.config, checkpoint.weights, "additive", kernel, bias)
        content = export_classifier(recipe, weights, list(dataset.labels), checkpoint.vocabulary)
        (folder / "model.tflite").write_bytes(content)
        # Random weights favour one label for all texts; the bias makes up for that in the second turn.
        with Classifier(folder / "model.tflite") as classifier:
            bias = -np.log(np.maximum(classifier.probabilities(dataset.train.texts), 1e-9)).mean(axis=0)
    (folder / "recipe.yaml").write_text(dump_recipe(recipe, relative_to=folder.absolute()))
    metrics = RunMetrics(
        name="reviews",
        versions={},
        seed=seed,
        files={path.name: digest for path, digest in dataset.files.items()},
        encoder=Encoder(source="encoder", format="textclf", sha256=checkpoint.fingerprint()),
        rows={split.name: len(split.rows) for split in dataset.splits},
        findings=[],
        history=[],
        best_epoch=1,
        export=Export(quantization="dynamic", bytes=len(content)),
    )
    metrics.write(folder)
    return folder


def compared(*folders: Path, **options: object) -> RunComparison:
    found = compare(list(folders), quiet=True, **options)  # type: ignore[arg-type]
    assert isinstance(found, RunComparison)
    return found


# --- Numbers ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("gained", "lost", "expected"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        (0, 5, 2 / 32),
        (8, 1, 2 * (1 + 9) / 512),
        (2, 10, 2 * (1 + 12 + 66) / 4096),
    ],
)
def test_mcnemars_exact_test_doubles_the_smaller_tail_of_the_binomial_distribution(
    gained: int, lost: int, expected: float
) -> None:
    assert mcnemar_p_value(gained, lost) == pytest.approx(expected, rel=1e-12)
    assert mcnemar_p_value(lost, gained) == mcnemar_p_value(gained, lost)


def test_mcnemars_exact_test_also_takes_many_rows() -> None:
    expected = 2 * sum(math.comb(2000, count) for count in range(901)) / 2**2000
    assert mcnemar_p_value(1100, 900) == pytest.approx(expected, rel=1e-9)
    assert mcnemar_p_value(90_000, 110_000) < 1e-300


def test_the_interval_of_an_accuracy_difference_is_walds_with_half_a_row_more_in_each_cell() -> None:
    low, high = accuracy_difference_interval(98, gained=12, lost=4)
    middle, reach = 8 / 100, 1.959964 * math.sqrt(17 - 64 / 100) / 100
    assert (low, high) == pytest.approx((middle - reach, middle + reach))
    low, high = accuracy_difference_interval(100, gained=0, lost=0)
    assert low == -high < 0
    assert accuracy_difference_interval(1, gained=1, lost=0)[1] <= 1


# --- Runs ------------------------------------------------------------------------------------------------------------
def test_two_runs_are_measured_on_the_test_rows_of_the_first(place: Path) -> None:
    first, second = write_run(place / "runs" / "a", 1), write_run(place / "runs" / "b", 2)
    found = compared(first, second)
    assert found.measured_on == "60 rows of test.csv, the test split of a"
    assert found.warnings == []
    with open("test.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    given = []
    for folder in (first, second):
        with Classifier(folder) as classifier:
            given.append([prediction.label for prediction in classifier.classify([row["review"] for row in rows])])
    right = [[label == row["mood"] for label, row in zip(labels, rows, strict=True)] for labels in given]
    assert [model.metrics.accuracy for model in found.models] == [sum(ours) / 60 for ours in right]
    [pair] = found.pairs
    assert pair.gained == sum(b and not a for a, b in zip(*right, strict=True)) > 0
    assert pair.lost == sum(a and not b for a, b in zip(*right, strict=True)) > 0
    assert pair.accuracy == pytest.approx((sum(right[1]) - sum(right[0])) / 60)
    assert pair.p_value == mcnemar_p_value(pair.gained, pair.lost)
    assert pair.interval == accuracy_difference_interval(60, pair.gained, pair.lost)
    expected = [
        (number + 2, rows[number]["review"], rows[number]["mood"], (a, b))
        for number, (a, b) in enumerate(zip(*given, strict=True))
        if a != b
    ]
    assert [(one.row, one.text, one.label, one.given) for one in found.disagreements] == expected
    assert pair.disagreeing_rows == len(expected) > 0
    recalls = [{label.label: label.recall for label in model.metrics.per_label} for model in found.models]
    assert {label.label: label.recall for label in pair.labels} == {
        label: recalls[1][label] - recalls[0][label] for label in ("bad", "good")
    }
    assert abs(pair.labels[0].f1) >= abs(pair.labels[1].f1)


def test_the_files_and_the_terminal_tell_the_same(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_run(place / "runs" / "a", 1)
    write_run(place / "runs" / "b", 2)
    assert run("compare", "runs/a", "runs/b", "-o", "compared") == 0
    printed = capfd.readouterr()
    found = compared(Path("runs/a"), Path("runs/b"))
    assert printed.out == found.as_text() + "\n"
    assert "Written to compared: comparison.md, comparison.json, disagreements.csv\n" in printed.err
    output = place / "compared"
    assert sorted(path.name for path in output.iterdir()) == ["comparison.json", "comparison.md", "disagreements.csv"]
    assert (output / "comparison.md").read_text() == found.as_markdown()
    values = json.loads((output / "comparison.json").read_text())
    as_dict = json.loads(json.dumps(found.as_dict()))
    assert values == {"format": "textclf-comparison", "version": 1, **as_dict}
    assert [one["name"] for one in values["runs"]] == ["a", "b"]
    with (output / "disagreements.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["row", "text", "true label", "a", "b"]
    assert rows == [[str(one.row), one.text, one.label, *one.given] for one in found.disagreements]
    assert run("compare", "runs/a", "runs/b", "--json") == 0
    assert json.loads(capfd.readouterr().out) == as_dict
    assert run("compare", "runs/a", "runs/b", "-o", "compared") == 2
    assert "compared: exists already" in capfd.readouterr().err
    assert run("compare", "runs/a", "runs/b", "-o", "compared", "--force") == 0


def test_a_comparison_never_replaces_a_folder_that_holds_a_run_it_reads(place: Path) -> None:
    first = write_run(place / "compared" / "runs" / "1-a", 1)
    (place / "compared" / "comparison.json").write_text('{"format": "textclf-comparison"}')
    with pytest.raises(
        RunError, match="1-a is read by this comparison and lies in the folder that the comparison would"
    ):
        compared(first, output="compared", force=True)
    assert (first / "model.tflite").is_file()


def test_long_texts_are_shortened_and_runs_of_one_name_are_told_apart_by_their_folders(place: Path) -> None:
    with open("test.csv", "a", encoding="utf-8") as file:
        file.writelines(f"{number},{'very ' * 100}{word},good\n" for number, word in enumerate(["bad", "late", "free"]))
    folders = [write_run(place / name / "a", seed) for name, seed in (("x", 1), ("y", 2), ("z", 3))]
    found = compared(*folders)
    assert [model.name for model in found.models] == ["x/a", "y/a", "z/a"]
    assert [(pair.first, pair.second) for pair in found.pairs] == [("x/a", "y/a"), ("x/a", "z/a")]
    assert max(len(one.text) for one in found.disagreements) <= 200
    with pytest.raises(ArgumentError, match="given twice"):
        compared(folders[0], folders[1], folders[0])


def test_a_file_with_labels_can_take_the_place_of_the_test_rows(place: Path) -> None:
    folders = [write_run(place / "runs" / name, seed) for name, seed in (("a", 1), ("b", 2))]
    write_reviews(place / "later.csv", 20, seed=7)
    found = compared(*folders, data="later.csv")
    assert (found.measured_on, found.rows, found.warnings) == ("20 rows of later.csv", 20, [])
    (place / "odd.csv").write_text("review,mood\nvery good,splendid\n")
    with pytest.raises(
        DataError, match=r"odd\.csv: has labels that the runs do not have: `splendid`; correct or remove"
    ):
        compared(*folders, data="odd.csv")


# --- Runs that cannot be compared ------------------------------------------------------------------------------------
def test_labels_that_only_one_run_has_are_named(place: Path) -> None:
    first = write_run(place / "runs" / "a", 1)
    second = write_run(place / "runs" / "b", 2, ("dataset.labels=[good, bad, neutral]",))
    with pytest.raises(RunError, match="b: its labels differ from those of a: only b has `neutral`; compare runs with"):
        compared(first, second)


def test_labels_in_another_order_are_matched_by_name(place: Path) -> None:
    first = write_run(place / "runs" / "a", 1)
    second = write_run(place / "runs" / "b", 2, ("dataset.labels=[good, bad]",))
    found = compared(first, second)
    alone = compared(second)
    assert found.models[1].metrics.accuracy == alone.models[0].metrics.accuracy
    assert [label.label for label in found.models[1].metrics.per_label] == ["bad", "good"]


def test_runs_that_read_other_columns_are_refused(place: Path) -> None:
    first = write_run(place / "runs" / "a", 1)
    second = write_run(place / "runs" / "b", 2, ("dataset.text=id",))
    with pytest.raises(RunError, match="b: reads the column id, but a reads review; compare runs"):
        compared(first, second)


def test_a_data_file_that_has_changed_is_an_error_for_the_first_run_and_a_warning_for_others(place: Path) -> None:
    first = write_run(place / "runs" / "a", 1)
    (place / "other.csv").write_bytes((place / "train.csv").read_bytes())
    second = write_run(place / "runs" / "b", 2, ("dataset.train=other.csv",))
    with open("other.csv", "a", encoding="utf-8") as file:
        file.write("161,one more good row,good\n")
    [warning] = compared(first, second).warnings
    assert "other.csv: the file has changed since the run b was trained on it. Some of the measured rows may" in warning
    with pytest.raises(
        DataError, match=r"other\.csv: the file has changed .*; restore the file, or measure on other .*--data"
    ):
        compared(second, first)
    (place / "other.csv").unlink()
    with pytest.raises(DataError, match=r"other\.csv: the data file of the run b is missing; restore the file"):
        compared(second, first)
    later = write_reviews(place / "later.csv", 20, seed=7)
    assert compared(second, first, data=later).rows == 20


def test_rows_that_only_one_run_was_trained_on_are_left_out(place: Path) -> None:
    with open("test.csv", newline="", encoding="utf-8") as file:
        _, *rows = csv.reader(file)
    with open("more.csv", "w", newline="", encoding="utf-8") as file:
        file.write((place / "train.csv").read_text(encoding="utf-8"))
        csv.writer(file).writerows(rows[:12])
    first = write_run(place / "runs" / "a", 1)
    write_reviews(place / "validation.csv", 20, seed=5)
    second = write_run(place / "runs" / "b", 2, ("dataset.train=more.csv", "dataset.validation=validation.csv"))
    found = compared(first, second)
    assert (found.rows, found.measured_on) == (48, "48 of 60 rows of test.csv, the test split of a")
    [warning] = found.warnings
    assert warning.startswith("12 of 60 rows are training rows of b (12), but not of every run. They are left out")
    assert min(one.row for one in found.disagreements) > 13


def test_a_split_that_is_the_training_data_of_another_run_is_refused(place: Path) -> None:
    first = write_run(place / "runs" / "a", 1)
    overrides = ("dataset.train=test.csv", "dataset.test=null", "dataset.validation=train.csv")
    second = write_run(place / "runs" / "b", 2, overrides)
    with pytest.raises(
        RunError, match=r"60 of 60 rows are training rows of b .*no row is left for a fair .*--data FILE"
    ):
        compared(first, second)
    later = write_reviews(place / "later.csv", 20, seed=7)
    assert compared(first, second, data=later).rows == 20


def test_another_split_and_a_missing_test_split_are_told(place: Path) -> None:
    first = write_run(place / "runs" / "a", 1, ("dataset.test=null",))
    second = write_run(place / "runs" / "b", 2, ("dataset.test=null", "training.seed=5"))
    found = compared(first, second)
    assert found.rows < 32
    assert found.warnings[0].startswith("a has no test split. Its validation rows also chose its best epoch")
    assert found.warnings[1].startswith(
        "b was measured on different rows after its training (its own validation split)"
    )
    assert "rows are training rows of b" in found.warnings[2]


def test_runs_that_began_with_different_built_in_encoders_of_one_name_are_told(place: Path) -> None:
    runs = [write_run(place / "runs" / name, seed) for seed, name in enumerate("abc")]
    for folder, source, sha256 in zip(runs, ["builtin"] * 3, ["1a" * 32, "2b" * 32, "1a" * 32], strict=True):
        metrics = RunMetrics.read(folder)
        encoder = metrics.encoder.model_copy(update={"source": source, "sha256": sha256})
        metrics.with_changes(encoder=encoder).write(folder)
    assert compared(*runs).warnings == [
        "the built-in encoder changed between a (SHA-256 1a1a1a1a…) and b (SHA-256 2b2b2b2b…), although both recipes name "
        "`builtin`, so the runs differ in more than their recipes"
    ]
    assert compared(runs[0], runs[2]).warnings == []


def test_what_is_no_run_and_a_run_without_a_model_are_told(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first = write_run(place / "runs" / "a", 1)
    with pytest.raises(RunError, match="the metrics are missing; choose the folder of a finished run"):
        compared(first, place / "encoder")
    with pytest.raises(RecipeError, match=r"nothing\.yaml"):
        compared(first, place / "nothing.yaml")
    assert run("compare", "runs/a", "training.epochs=2") == 2
    assert "`training.epochs=2` is a setting of a recipe, but only runs are compared" in capfd.readouterr().err
    assert run("compare", "runs/a", "recipe.yaml", "--engines", "native") == 2
    assert "engines (--engines) is for a single recipe" in capfd.readouterr().err
    (first / "model.tflite").unlink()
    with pytest.raises(ModelError, match=r"this run has no model\.tflite; write one with: textclf export"):
        compared(first)


def test_runs_are_compared_without_tensorflow(place: Path) -> None:
    write_run(place / "runs" / "a", 1)
    write_run(place / "runs" / "b", 2)
    code = (
        "import sys\nsys.modules['tensorflow'] = sys.modules['keras'] = None\n"
        "from textclf.runs.compare import compare\n"
        "print(compare(['runs/a', 'runs/b'], quiet=True).rows)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "60\n"


# --- Recipes ---------------------------------------------------------------------------------------------------------
def test_recipes_are_trained_first_and_compared_with_runs(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_run(place / "runs" / "a", 1)
    Path("words.yaml").write_text(
        "name: words\ndataset:\n  train: train.csv\n  test: test.csv\n  text: review\n  label: mood\n"
        "encoder: average-words\ntraining:\n  epochs: 1\n"
    )
    assert run("compare", "words.yaml", "runs/a", "words.yaml", "training.seed=2", "--json") == 0
    values = json.loads(capfd.readouterr().out)
    assert [one["name"] for one in values["runs"]] == ["1-words", "a", "3-words"]
    assert values["runs"][0]["metrics"]["accuracy"] == values["runs"][2]["metrics"]["accuracy"]
    output = place / "runs" / "words-compared"
    assert not foreign_entries(output, COMPARISON.entries)
    again = load_recipe(output / "runs" / "1-words" / "recipe.yaml")
    assert (again.training.seed, again.dataset.train) == (2, place / "train.csv")
    metrics = json.loads((output / "runs" / "1-words" / "metrics.json").read_text())
    assert metrics["test"]["accuracy"] == values["runs"][0]["metrics"]["accuracy"]


def test_arguments_that_do_not_fit_together_are_told_before_anything_is_trained(place: Path) -> None:
    recipe = load_recipe("recipe.yaml")
    smoothed = load_recipe("recipe.yaml", ["training.label_smoothing=0.1"])
    for items, options, error, message in (
        ([], {}, ArgumentError, "items is empty"),
        (recipe, {"engines": ["fast"]}, ArgumentError, "'fast' is not an engine; choose from native, model-maker"),
        (recipe, {"data": "test.csv"}, ArgumentError, r"data \(--data\) is for comparing runs or several recipes"),
        (recipe, {"overrides": ["training.epochs=2"]}, ArgumentError, "pass it to load_recipe instead"),
        ([recipe, "recipe.yaml"], {"seeds": 2}, ArgumentError, r"seeds \(--seeds\) is for a single recipe"),
        (smoothed, {"engines": ["model-maker"]}, RecipeError, r"training\.label_smoothing is 0\.1, but Model Maker"),
    ):
        with pytest.raises(error, match=message):
            compare(items, quiet=True, **options)  # type: ignore[arg-type]
    assert not (place / "runs").exists()


@pytest.fixture
def never_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training fails the test."""

    def train(*_: object, **__: object) -> None:
        raise AssertionError("a model was trained before the data were checked")

    monkeypatch.setattr("textclf.runs.train.train", train)


@pytest.mark.usefixtures("never_trained")
def test_rows_that_cannot_be_measured_are_told_before_anything_is_trained(place: Path) -> None:
    write_run(place / "a", seed=1)
    (place / "bad.csv").write_text("id,review\n1,good film\n")
    (place / "odd.csv").write_text("id,review,mood\n1,good film,great\n")
    for items in (["a", "recipe.yaml"], ["recipe.yaml", "a"]):
        with pytest.raises(DataError, match="there is no column `mood`"):
            compare(items, "compared", data="bad.csv", quiet=True)
        with pytest.raises(DataError, match="has labels that the runs do not have: `great`"):
            compare(items, "compared", data="odd.csv", quiet=True)
    write_reviews(place / "test.csv", 10, seed=3)
    with pytest.raises(DataError, match="the file has changed since the run a was trained on it; restore the file"):
        compare(["a", "recipe.yaml"], "compared", quiet=True)
    assert not (place / "compared").exists()


@pytest.mark.usefixtures("never_trained")
def test_recipes_that_do_not_fit_are_told_before_anything_is_trained(place: Path) -> None:
    text = (place / "recipe.yaml").read_text()
    (place / "gone.yaml").write_text(text.replace("train: train.csv", "train: gone.csv"))
    with pytest.raises(DataError, match=r"gone\.csv"):
        compare(["recipe.yaml", "gone.yaml"], "compared", quiet=True)
    (place / "other.csv").write_text((place / "train.csv").read_text().replace(",bad", ",poor"))
    (place / "other.yaml").write_text(
        text.replace("name: reviews", "name: other").replace("train: train.csv\n  test: test.csv", "train: other.csv")
    )
    with pytest.raises(
        RunError, match="other: its labels differ from those of reviews: only reviews has `bad`; only other"
    ):
        compare(["recipe.yaml", "other.yaml"], "compared", quiet=True)
    (place / "columns.yaml").write_text(text.replace("text: review", "text: id"))
    with pytest.raises(RunError, match="reads the column id, but reviews reads review"):
        compare(["recipe.yaml", "columns.yaml"], "compared", quiet=True)
    assert not (place / "compared").exists()
