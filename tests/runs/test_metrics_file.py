"""`metrics.json` as a typed record: the bytes that were written before there was one, and errors that name the key.

The files in tests/fixtures/metrics were written by the version before this record existed: a run with two seeds and a
threshold, one that averages words, and one of which no form of the model had passed.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.predicted_rows import predicted_rows
from textclf.errors import RunError
from textclf.runs.pages.model_card import write_model_card
from textclf.runs.pages.report import write_report
from textclf.runs.record.metrics_file import RunMetrics
from textclf.runs.tasks.classification.record import ClassificationMetrics

FIXTURES = Path(__file__).parent.parent / "fixtures"
FIRST = FIXTURES / "first_version" / "runs" / "reviews"
NAMES = ("seeds", "words", "withheld")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run with two seeds, of which only `metrics.json` is there."""
    shutil.copy(FIXTURES / "metrics" / "seeds.json", tmp_path / "metrics.json")
    return tmp_path


def changed(folder: Path, key: str, value: Any) -> None:
    """Sets a dotted key of the run's `metrics.json`, or removes it if the value is `...`."""
    file = folder / "metrics.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    *outer, last = key.split(".")
    place = values
    for name in outer:
        place = place[int(name)] if isinstance(place, list) else place[name]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    file.write_text(json.dumps(values), encoding="utf-8")


@pytest.mark.parametrize("record", [ClassificationMetrics, RunMetrics])
@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_written_with_the_bytes_that_were_read(tmp_path: Path, name: str, record: type[RunMetrics]) -> None:
    content = (FIXTURES / "metrics" / f"{name}.json").read_bytes()
    (tmp_path / "metrics.json").write_bytes(content)
    metrics = record.read(tmp_path)
    (tmp_path / "metrics.json").unlink()
    metrics.write(tmp_path)
    assert (tmp_path / "metrics.json").read_bytes() == content
    assert metrics.as_dict() == json.loads(content)


def test_every_value_has_a_type(folder: Path) -> None:
    metrics = ClassificationMetrics.read(folder)
    assert (metrics.name, metrics.labels, metrics.engine.name) == ("reviews", ["bad", "good"], "native")
    assert list(metrics.measured) == ["test", "validation"]
    assert metrics.measured["test"].confusion_matrix().sum() == metrics.rows["test"] == 60
    assert metrics.seeds is not None
    assert [training.seed for training in metrics.seeds.trainings] == [1, 2]
    accuracies = [training.scores["test"]["accuracy"] for training in metrics.seeds.trainings]
    assert metrics.seeds["test"]["accuracy"].mean == pytest.approx(sum(accuracies) / 2)
    assert metrics.history[-1].validation_accuracy <= 1
    assert metrics.encoder.configured("num_hidden_layers") == 2
    assert metrics.encoder.configured("words") is None
    assert metrics.rejection is not None
    assert metrics.rejection["test"].threshold == metrics.rejection["validation"].threshold
    assert metrics.export.withheld is None


def test_what_model_maker_reports_about_itself_is_kept(folder: Path) -> None:
    engine = {
        "name": "model-maker",
        "versions": {"tflite-model-maker": "0.4.3", "tensorflow": "2.8.4"},
        "seconds": {"export": 2.5, "first_step": None},
        "peak_mib": 5384.0,
    }
    changed(folder, "engine", engine)
    metrics = RunMetrics.read(folder)
    assert metrics.engine.peak_mib == 5384
    assert metrics.as_dict()["engine"] == engine


def test_a_run_of_the_first_textclf_is_read_and_written_as_version_1(tmp_path: Path) -> None:
    metrics = ClassificationMetrics.read(FIRST)
    assert metrics.best_epoch == 7
    assert metrics.export.refused == ()
    assert metrics.measured["test"].confusion_cells[0] == [0, 0, 29]
    metrics.write(tmp_path)
    before = json.loads((FIRST / "metrics.json").read_text(encoding="utf-8"))
    after = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert (after.pop("format"), after.pop("version")) == ("textclf-metrics", 1)
    assert list(after) == list(before)
    assert [key for key in before if after[key] != before[key]] == ["validation", "test"], "these have cells now"


@pytest.mark.parametrize("source", [FIRST, *(FIXTURES / "metrics" / f"{name}.json" for name in NAMES)])
def test_the_pages_of_every_recorded_run_can_be_drawn(tmp_path: Path, source: Path) -> None:
    shutil.copy(source / "metrics.json" if source.is_dir() else source, tmp_path / "metrics.json")
    metrics = ClassificationMetrics.read(tmp_path)
    write_report(tmp_path, metrics, [], predicted_rows(next(iter(metrics.measured.values()))))
    write_model_card(tmp_path, metrics)
    for page in ("report.html", "MODEL_CARD.md"):
        assert f"{metrics.measured['test'].accuracy:.1%}" in (tmp_path / page).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("export.bytes", ..., "`export.bytes` is missing"),
        ("export.bytes", "many", "`export.bytes` is 'many'; expected a valid integer"),
        ("labels", None, "`labels` is None; expected"),
        ("encoder.source", 5, "`encoder.source` is 5; expected a valid string"),
        ("test.accuracy", {}, "`test.accuracy` is {}; expected a valid number"),
        ("validation.per_label.1.support", "x", "`validation.per_label.1.support` is 'x'; expected a valid integer"),
        ("seeds.test.accuracy.mean", ..., "`seeds.test.accuracy.mean` is missing"),
        (
            "seeds.trainings.0.scores.test.loss",
            "x",
            "`seeds.trainings.0.scores.test.loss` is 'x'; expected a valid num",
        ),
        ("rejection.test.threshold", [1], "`rejection.test.threshold` is [1]; expected a valid number"),
        ("history.0.validation_loss", ..., "`history.0.validation_loss` is missing"),
        ("test.confusion", [1], "`test` is "),
    ],
)
def test_a_damaged_file_is_an_error_that_names_the_key(folder: Path, key: str, value: Any, words: str) -> None:
    changed(folder, key, value)
    with pytest.raises(RunError) as error:
        ClassificationMetrics.read(folder)
    assert f"{folder / 'metrics.json'}: the metrics are damaged: {words}" in str(error.value)
    assert str(error.value).endswith("; restore the file, or train again")


def test_a_newer_file_is_refused(folder: Path) -> None:
    changed(folder, "version", 2)
    with pytest.raises(RunError, match="has version 2, but this textclf reads version 1; install a newer textclf"):
        ClassificationMetrics.read(folder)


def test_a_file_of_another_program_is_refused(folder: Path) -> None:
    (folder / "metrics.json").write_text('{"format": "other", "accuracy": 0.9}')
    with pytest.raises(
        RunError, match="the metrics are not those of a run of textclf; choose the folder of a finished"
    ):
        RunMetrics.read(folder)


def test_a_key_that_a_later_textclf_adds_is_kept_and_stands_before_the_recipe(folder: Path) -> None:
    changed(folder, "energy", {"joules": 5})
    changed(folder, "export.energy", 7)
    metrics = ClassificationMetrics.read(folder).with_changes(seconds=1.5)
    values = metrics.as_dict()
    assert list(values)[-3:] == ["energy", "recipe", "seconds"]
    assert (values["energy"], values["export"]["energy"], values["seconds"]) == ({"joules": 5}, 7, 1.5)
