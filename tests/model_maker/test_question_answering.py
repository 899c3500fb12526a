"""The engine model-maker for questions, with a stand-in for its worker: what it gets, and what becomes of its logits."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.questions import prepared, write_question_recipe
from textclf.data.question_answering.questions import Answer, QuestionSplit
from textclf.errors import EngineError, RecipeError
from textclf.model_maker import running
from textclf.model_maker.environment import Environment
from textclf.model_maker.question_answering.engine import ModelMakerAnswering, train_with_model_maker
from textclf.model_maker.question_answering.job import squad_of
from textclf.recipe.reading import load_recipe
from textclf.runs.check import check
from textclf.terminal.progress import Progress
from textclf.training.saved.run_folder import open_run_folder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Model Maker runs on Linux only")

FAKE = REPOSITORY / "tests" / "fake_model_maker.py"

QUESTIONS, WITHOUT_ANSWER = 60, 12


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("questions")
    return write_question_recipe(folder, questions=64, engine="model-maker", epochs=2, seed=3)


@pytest.fixture
def behave(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """A function that says how the stand-in behaves; without a call it does its work."""
    environment = Environment(tmp_path, Path(sys.executable), "", {}, 0.0, 0)
    for module in ("model_maker.question_answering.engine", "model_maker.running"):
        monkeypatch.setattr(f"textclf.{module}.require_environment", lambda: environment)
    monkeypatch.setattr("textclf.model_maker.hub_module.write_hub_module", lambda folder, _: folder.mkdir())
    monkeypatch.setenv("FAKE_KEPT", str(tmp_path / "kept"))

    def say(behaviour: str) -> None:
        monkeypatch.setattr(
            running, "worker_command", lambda python, folder: [str(python), str(FAKE), folder, behaviour]
        )

    say("")
    return say


def _train(recipe: Path, run_dir: Path, *overrides: str) -> ModelMakerAnswering:
    """The engine alone, in an unfinished run folder."""
    loaded, data, checkpoint = prepared(load_recipe(recipe, overrides))
    with open_run_folder(run_dir, force=False, resume=False) as folder:
        return train_with_model_maker(loaded, data, checkpoint, folder, Progress(quiet=True))


def test_a_training_is_recorded_as_one_of_our_own_is(recipe: Path, tmp_path: Path, behave: object) -> None:
    training = _train(recipe, tmp_path / "run")
    log = [json.loads(line) for line in (tmp_path / ".run.unfinished" / "log.jsonl").read_text().splitlines()]
    # 64 training rows make 4 steps of 16.
    assert [(step["step"], step["epoch"]) for step in log if step["event"] == "step"] == [
        (number + 1, number // 4 + 1) for number in range(8)
    ]
    unanswered = WITHOUT_ANSWER / QUESTIONS
    for entry in training.winner.history:
        assert entry["validation_exact_match"] == entry["validation_f1"] == pytest.approx(unanswered)
    assert training.winner.best_epoch == 2, "Model Maker exports the last epoch"
    assert training.winner.scores["test"]["exact_match"] == pytest.approx(unanswered)
    assert "answers none of the validation questions" in training.winner.warnings[-1]
    assert training.facts["name"] == "model-maker"
    assert training.forms == ("dynamic",)


def test_logits_of_padding_are_those_of_padding_everywhere(recipe: Path, tmp_path: Path, behave: object) -> None:
    logits = _train(recipe, tmp_path / "run").logits("validation")
    _, data, _ = prepared(load_recipe(recipe))
    lengths = data.encoded["validation"].lengths
    assert logits.shape == (len(lengths), 40, 2)
    assert ((logits > -1e8).sum(axis=1) == lengths[:, None]).all()


def test_model_maker_gets_a_squad_file_and_our_windows(
    recipe: Path, tmp_path: Path, behave: Callable[[str], None]
) -> None:
    behave("keep")
    with pytest.raises(EngineError, match="without a model"):
        _train(recipe, tmp_path / "run")
    kept = tmp_path / "kept"
    job = json.loads((kept / "job.json").read_text())
    expected = {
        "task": "question-answering",
        "max_length": 40,
        "stride": 12,
        "question_length": 8,
        "learning_rate": 3e-3,
    }
    assert {key: job[key] for key in expected} == expected
    _, data, _ = prepared(load_recipe(recipe))
    [article] = json.loads((kept / "train.json").read_text())["data"]
    given = {
        (question["question"], paragraph["context"]): [
            (one["text"], one["answer_start"]) for one in question["answers"]
        ]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    }
    train = data.split("train")
    assert given == {
        texts: [tuple(answer) for answer in own] for texts, own in zip(train.texts, train.answers, strict=True)
    }
    assert list(given) != train.texts, "the seed decides the order"
    with np.load(kept / "test.npz") as windows:
        assert windows["input_word_ids"].shape == (len(data.windows["test"]), 40)
        assert windows["input_mask"].sum(axis=1).tolist() == data.encoded["test"].lengths.tolist()
        assert windows["input_type_ids"].max() == 1


def test_a_question_has_one_answer_and_blanks_that_model_maker_splits_at() -> None:
    context = "The\u00a0lamp costs\u00a09\u2028\u00a0euros, half \ud800 of it."
    answers = (Answer("9\u2028\u00a0euros", 15), Answer("half", 25))
    split = QuestionSplit(
        "train", [("How\tmuch?", context)], np.array([[15, 23]], np.int32), [1], Path("a.json"), ["a"], [answers]
    )
    [paragraph] = squad_of(split, seed=0)["data"][0]["paragraphs"]
    assert paragraph["context"] == "The lamp costs 9  euros, half ? of it."
    assert paragraph["qas"] == [
        {
            "id": "0",
            "question": "How much?",
            "answers": [{"text": "9  euros", "answer_start": 15}],
            "is_impossible": False,
        }
    ]


def test_fewer_windows_than_a_batch_are_an_error_that_says_so(recipe: Path, tmp_path: Path, behave: object) -> None:
    with pytest.raises(RecipeError, match=r"training\.batch_size is 500, but the training questions make 9\d windows"):
        _train(recipe, tmp_path / "run", "training.batch_size=500")


def test_check_tells_of_model_maker_what_training_would(recipe: Path) -> None:
    [finding] = [finding for finding in check(recipe).findings if finding.kind == "model_maker"]
    assert "windows that do not fill the last batch" in finding.message
    native = check(recipe, ["training.engine=native"]).findings
    assert not [finding for finding in native if finding.kind == "model_maker"]
