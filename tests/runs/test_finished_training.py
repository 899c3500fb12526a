"""A finished training is never lost: what fails after it keeps the weights in reach, and what can be known is said before."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import stat
import sys
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import textclf
from tests.command import run
from tests.tiny import write_recipe
from textclf.classify.classifier import Classifier
from textclf.encoders.kinds import kind_of
from textclf.encoders.prepare import load_recipe_data, prepare, prepare_data
from textclf.errors import EncoderError, RunError, VerificationError
from textclf.exporting.trained_run import load_trained_run
from textclf.files.output_folder import foreign_entries
from textclf.recipe.reading import load_recipe
from textclf.runs.export import export_run
from textclf.runs.tasks.classification.engines import train_with_engine
from textclf.terminal.progress import Progress
from textclf.tflite.metadata import read_metadata
from textclf.training.saved.run_folder import RUN_ENTRIES, open_run_folder


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with its data, and an unfinished run in which the training has ended: `.run.unfinished`."""
    folder = tmp_path_factory.mktemp("trained")
    recipe = load_recipe(write_recipe(folder, rows=80, epochs=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", InterruptedAt("Calibration:"))
        with pytest.raises(KeyboardInterrupt):
            textclf.train(recipe, folder / "run")
    assert (folder / ".run.unfinished" / "checkpoints" / "last.safetensors").is_file()
    return folder


class InterruptedAt(io.StringIO):
    """Standard error of somebody who presses Ctrl-C on reading these words."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words

    def write(self, text: str) -> int:
        if self.words in text:
            raise KeyboardInterrupt
        return super().write(text)


def stopped(*_: object, **__: object) -> Any:
    raise KeyboardInterrupt


@pytest.fixture
def trained(start: Path, tmp_path: Path) -> Path:
    """A copy of it, at another place."""
    return Path(shutil.copytree(start, tmp_path / "moved"))


@pytest.fixture(scope="module")
def finished_once(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(start, tmp_path_factory.mktemp("finished") / "moved"))
    finish(folder, "training.reject_for_precision=0.5")
    return folder


@pytest.fixture
def complete(finished_once: Path, tmp_path: Path) -> Path:
    """A copy of a finished run's folder; its data and its encoder lie beside it."""
    return Path(shutil.copytree(finished_once, tmp_path / "moved")) / "run"


def finish(folder: Path, *overrides: str, **how: Any) -> textclf.Run:
    recipe = load_recipe(folder / "recipe.yaml", [f"encoder.source={folder / 'encoder'}", *overrides])
    return textclf.train(recipe, folder / "run", **{"resume": True, "quiet": True, **how})


def broken_in(*forms: str, error: Exception | None = None) -> Any:
    """The gate, which these forms of the file do not pass."""
    from textclf.runs.tasks.classification import exporting

    real = exporting.verify_export

    def verify(trained: np.ndarray, exported: np.ndarray, truth: np.ndarray, form: str, **bounds: Any) -> Any:
        if form in forms:
            raise error or VerificationError(f"bound broken in {form}")
        return real(trained, exported, truth, form, **bounds)

    return verify


def test_a_form_that_does_not_pass_is_replaced_by_the_nearest_that_does_and_this_is_said_everywhere(
    trained, monkeypatch, capfd
):
    monkeypatch.setattr("textclf.runs.tasks.classification.exporting.verify_export", broken_in("int4", "dynamic"))
    finished = finish(trained, "export.quantization=int4", quiet=False)
    export = finished.metrics["export"]
    assert export["requested"] == "int4"
    assert export["quantization"] == "float16"
    assert export["withheld"] is None
    assert export["refused"] == [
        {"quantization": "int4", "reason": "bound broken in int4"},
        {"quantization": "dynamic", "reason": "bound broken in dynamic"},
    ]
    settings = read_metadata(finished.model_path).settings
    assert settings is not None
    assert settings["quantization"] == "float16"
    assert finished.model_path.stat().st_size == export["bytes"]
    said = "model.tflite is written as float16, not as int4, which the recipe asks for (int4: bound broken in int4; "
    assert said in " ".join(finished.metrics["warnings"])
    assert said in (finished.dir / "report.html").read_text()
    assert "not as int4" in (finished.dir / "MODEL_CARD.md").read_text()
    assert "Warning: export.quantization dynamic: bound broken in dynamic" in capfd.readouterr().err
    assert "quantization: int4" in (finished.dir / "recipe.yaml").read_text()


def test_the_command_ends_with_code_3_when_the_form_is_another_one(trained, monkeypatch):
    monkeypatch.setattr("textclf.runs.tasks.classification.exporting.verify_export", broken_in("dynamic"))
    source = f"encoder.source={trained / 'encoder'}"
    assert run("train", trained / "recipe.yaml", source, "--run-dir", trained / "run", "--resume") == 3
    assert (trained / "run" / "model.tflite").is_file()


FORMS = ("int4", "dynamic", "float16", "none")


@pytest.mark.parametrize("error", [None, RuntimeError("the runtime said no"), FloatingPointError("no number")])
def test_where_no_form_passes_the_run_is_complete_without_a_model_and_gets_one_by_an_export(
    trained, monkeypatch, error
):
    with monkeypatch.context() as patch:
        patch.setattr("textclf.runs.tasks.classification.exporting.verify_export", broken_in(*FORMS, error=error))
        with pytest.raises(
            VerificationError, match=r"the training is complete, but model\.tflite was not written"
        ) as it:
            finish(trained)
    assert "textclf export" in str(it.value)
    folder = trained / "run"
    assert not (folder / "model.tflite").exists()
    assert not (trained / ".run.unfinished").exists()
    reason = f"{type(error).__name__}: {error}" if error is not None else "bound broken in dynamic"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["export"]["withheld"] == reason
    assert metrics["export"]["bytes"] is None
    assert 0 <= metrics["test"]["accuracy"] <= 1
    for page in ("report.html", "MODEL_CARD.md"):
        assert "export was withheld" in (folder / page).read_text()
        assert reason in (folder / page).read_text()
    with pytest.raises(RunError, match="the run is complete"):
        finish(trained)

    path, report = export_run(folder, ["quantization=float16"])
    assert path == folder / "model.tflite"
    assert report.problems == []
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["export"]["withheld"] is None
    assert metrics["export"]["quantization"] == "float16"
    assert metrics["export"]["bytes"] == path.stat().st_size
    for page in ("report.html", "MODEL_CARD.md"):
        assert "withheld" not in (folder / page).read_text()
    other, _ = export_run(folder, ["quantization=none"])
    assert other == folder / "model-none.tflite"
    assert foreign_entries(folder, RUN_ENTRIES) == []


def test_probabilities_that_are_no_numbers_never_pass(trained, monkeypatch):
    real = Classifier.probabilities

    def with_nan(self: Classifier, texts: Any) -> np.ndarray:
        probabilities = real(self, texts)
        probabilities[0, 0] = np.nan
        return probabilities

    monkeypatch.setattr("textclf.runs.tasks.classification.exporting.Classifier.probabilities", with_nan)
    with pytest.raises(VerificationError, match=r"not written: the exported model returns .* not numbers for 2 of"):
        finish(trained)


def test_an_export_that_ends_the_process_is_resumed_in_another_form(trained, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("textclf.runs.tasks.classification.engines.export_classifier", stopped)
        with pytest.raises(KeyboardInterrupt):
            finish(trained)
    resumed = finish(trained, "export.quantization=float16", "training.calibrate=false", "training.watchers.stuck=fail")
    assert resumed.metrics["export"]["quantization"] == "float16"
    assert resumed.metrics["calibration"]["temperature"] == 1


@pytest.mark.parametrize("changed", ["training.learning_rate=0.1", "training.epochs=2", "encoder.max_length=16"])
def test_what_changes_the_training_itself_forbids_to_resume(trained, changed):
    with pytest.raises(RunError, match=r"the recipe, the data or the encoder changed.*force=True \(--force\)"):
        finish(trained, changed)


def test_a_state_of_the_first_textclf_is_not_taken_for_changed_data(trained):
    from textclf.training.saved.run_folder import load_state, save_state

    file = trained / ".run.unfinished" / "checkpoints" / "last.safetensors"
    arrays, facts = load_state(file)
    save_state(file, arrays, {"fingerprint": "x", "progress": facts["progress"]})
    with pytest.raises(RunError, match="saved by an older textclf"):
        finish(trained)
    for damaged in ({"step": "x", "unknown": 1}, [1], None):
        save_state(file, arrays, {**facts, "progress": damaged})
        with pytest.raises(RunError, match="its facts are damaged"):
            finish(trained)
    save_state(file, {**arrays, "model/head/bias": np.zeros(7, np.float32)}, facts)
    with pytest.raises(RunError, match="its arrays are not those of this training"):
        finish(trained)


@pytest.mark.parametrize(
    "fails",
    [
        "textclf.encoders.formats.textclf_format.write_encoder",
        "textclf.runs.tasks.forms.write_bytes",
        "textclf.runs.train.write_pages",
    ],
)
def test_a_full_disk_after_the_training_costs_nothing_but_a_resume(trained, monkeypatch, fails):
    import errno

    def full(path: Path, *_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(fails, full)
        with pytest.raises(RunError, match=r"the disk is full; free some space, then continue with resume=True"):
            finish(trained)
    assert finish(trained).model_path.is_file()


def test_a_report_that_cannot_be_drawn_is_a_warning_and_the_rest_is_complete(trained, caplog):
    with (trained / ".run.unfinished" / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"event": "step", "step": 1}\n')
    finished = finish(trained)
    assert finished.model_path.is_file()
    warning = "report.html could not be written: ValueError: log.jsonl is damaged (KeyError: 'epoch')"
    assert warning in finished.metrics["warnings"]
    assert json.loads((finished.dir / "metrics.json").read_text()) == finished.metrics
    assert "log.jsonl is damaged" in (finished.dir / "MODEL_CARD.md").read_text()
    assert "report.html cannot be written" in caplog.text
    assert not (finished.dir / "report.html").exists()


def test_exporting_changes_nothing(trained):
    recipe = load_recipe(trained / "recipe.yaml", [f"encoder.source={trained / 'encoder'}"])
    recipe, dataset = load_recipe_data(recipe)
    encoder = kind_of(recipe).load(recipe.encoder, dataset)
    data = prepare_data(recipe, dataset, prepare(recipe, dataset, encoder).tokenizer)
    with open_run_folder(trained / "run", force=False, resume=True) as folder:
        training = train_with_engine(recipe, data, encoder, folder, Progress(quiet=True), time.monotonic())
        before = training.logits("validation")
        first = training.export(2.0, None, "none")
        assert training.export(2.0, None, "none") == first
        assert training.export(1.0, None, "none") != first
        np.testing.assert_array_equal(training.logits("validation"), before)
        assert training.forms == ("dynamic", "float16", "none")


def test_a_run_folder_names_no_folder_of_the_machine_and_its_recipe_runs_again_where_both_are_moved(trained, tmp_path):
    finished = finish(trained)
    for name in ("metrics.json", "recipe.yaml", "report.html", "MODEL_CARD.md"):
        assert str(tmp_path) not in (finished.dir / name).read_text(), name
    assert set(finished.metrics["files"]) == {"train.csv", "test.csv"}
    assert finished.metrics["recipe"]["dataset"]["train"] == "train.csv"
    assert finished.metrics["encoder"]["source"] == "encoder"
    assert (finished.metrics["format"], finished.metrics["version"]) == ("textclf-metrics", 1)
    again = load_recipe(finished.dir / "recipe.yaml")
    assert again.dataset.train == trained / "train.csv"
    assert again.encoder.source == str(trained / "encoder")
    moved = trained.rename(tmp_path / "moved again")
    path, _ = export_run(moved / "run", ["quantization=none"])
    assert path.is_file()


@pytest.mark.skipif(not hasattr(os, "fchmod"), reason="needs POSIX modes")
def test_everything_in_a_run_folder_has_the_mode_of_the_umask(trained):
    before = os.umask(0o027)
    try:
        finished = finish(trained)
        export_run(finished.dir, ["quantization=none"])
    finally:
        os.umask(before)
    modes = {
        path.relative_to(finished.dir).as_posix(): stat.S_IMODE(path.stat().st_mode)
        for path in finished.dir.rglob("*")
        if path.is_file() and not path.name.startswith("log")
    }
    assert len(modes) >= 10
    assert {name: oct(mode) for name, mode in modes.items() if mode != 0o640} == {}


# --- Exports replace models of textclf only --------------------------------------------------------------------------


def test_an_export_replaces_no_file_that_is_not_a_model_of_ours(complete, tmp_path):
    folder = complete
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "other.tflite").write_bytes(b"\x1c\x00\x00\x00TFL3")
    (tmp_path / "folder").mkdir()
    cases = {
        tmp_path / "notes.txt": "is not a model of textclf",
        tmp_path / "other.tflite": "is not a model of textclf",
        tmp_path / "folder": "is a folder",
        tmp_path / "nowhere" / "m.tflite": "the folder .*nowhere does not exist; create it",
        tmp_path / ("n" * 300): "cannot be written",
        complete.parent / "train.csv": "is not a model of textclf",
        folder / "recipe.yaml": "is not a model of textclf",
        folder / "checkpoints" / "best" / "head.safetensors": "is not a model of textclf",
        folder / "model.tflite": "is the model of a run",
    }
    if sys.platform != "win32":
        os.mkfifo(tmp_path / "pipe")
        cases[tmp_path / "pipe"] = "is not a regular file"
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for path, words in cases.items():
        with pytest.raises(RunError, match=words):
            export_run(folder, ["quantization=none"], path, force=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.skipif(sys.platform == "win32", reason="needs links and POSIX modes")
def test_a_replaced_export_keeps_its_mode_and_links_are_followed(complete, tmp_path):
    folder = complete
    output, link = tmp_path / "out.tflite", tmp_path / "link.tflite"
    export_run(folder, ["quantization=none"], output)
    output.chmod(0o600)
    link.symlink_to(output)
    with pytest.raises(RunError, match=r"exists already.*force=True \(--force\)"):
        export_run(folder, ["quantization=float16"], link)
    export_run(folder, ["quantization=float16"], link, force=True)
    assert link.is_symlink()
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert (read_metadata(output).settings or {})["quantization"] == "float16"


def test_a_run_of_the_first_textclf_is_exported_and_replaced(complete):
    folder = complete
    file = folder / "metrics.json"
    metrics = json.loads(file.read_text())
    for key in ("format", "version"):
        del metrics[key]
    for key in ("requested", "refused", "withheld", "doubt"):
        del metrics["export"][key]
    file.write_text(json.dumps(metrics))
    bound = load_trained_run(folder).reject_below
    assert bound == (read_metadata(folder / "model.tflite").settings or {}).get("reject_below")
    path, _ = export_run(folder, ["quantization=none"])
    assert path.name == "model-none.tflite"
    file.write_text(json.dumps({**metrics, "format": "textclf-metrics", "version": 2}))
    with pytest.raises(RunError, match="install a newer textclf"):
        load_trained_run(folder)


def test_a_head_that_does_not_fit_or_holds_nan_is_refused_by_name(complete):
    from textclf.training.saved.run_folder import load_state, save_state

    folder = complete
    file = folder / "checkpoints" / "best" / "head.safetensors"
    head, _ = load_state(file)
    for name, array in {
        "head/bias": np.full(2, np.nan, np.float32), "head/kernel": np.zeros((3, 2), np.float32)
    }.items():  # fmt: skip
        save_state(file, {**head, name: array}, {})
        with pytest.raises(RunError, match=re.escape(f"`{name}` is")):
            load_trained_run(folder)


# --- What would fail at the end is said at the start -----------------------------------------------------------------


def test_a_disk_that_is_too_small_is_said_before_the_training(trained, monkeypatch):
    Usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(10, 10, 1000))
    with pytest.raises(RunError, match=r"only 0 MB are free on this disk, but the training writes up to \d+ MB"):
        finish(trained)


def test_inputs_inside_the_run_to_be_replaced_are_refused_and_its_own_recipe_is_not(complete):
    folder = complete
    recipe = load_recipe(folder / "recipe.yaml", [f"encoder.source={folder}"])
    with pytest.raises(RunError, match="lies in the folder that the run would replace"):
        textclf.train(recipe, folder, force=True, quiet=True)
    assert (folder / "model.tflite").is_file()
    # The recipe was read as a whole and may be in the folder that it replaces.
    broken = load_recipe(folder / "recipe.yaml", [f"encoder.source={complete.parent / 'nothing'}"])
    with pytest.raises(EncoderError):
        textclf.train(broken, folder, force=True, quiet=True)
    assert (folder / "model.tflite").is_file()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_training_in_a_process_forked_after_a_training_is_refused_instead_of_waiting_for_ever(start, tmp_path):
    recipe = load_recipe(start / "recipe.yaml")
    child = os.fork()
    if child == 0:
        try:
            textclf.train(recipe, tmp_path / "run", quiet=True)
        except RunError as error:
            os._exit(0 if "forked" in str(error) and "spawn" in str(error) else 2)
        except BaseException:
            os._exit(3)
        os._exit(4)
    assert os.waitpid(child, 0)[1] == 0
    assert not (tmp_path / ".run.unfinished").exists()
