"""Training to answer questions: the loss is BERT's, epochs are compared by F1, and a killed run is resumed to the same bits."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import textclf
from tests.encoders.test_mobilebert import token_arrays
from tests.encoders.test_question_head import BIAS, KERNEL, write_with_head
from tests.questions import fit_questions, prepared, write_question_recipe
from tests.tiny import tiny_checkpoint, write_tiny_encoder
from textclf.data.tokens.encoded import Tokens
from textclf.encoders.formats.arrays import StoredArray
from textclf.encoders.mobilebert import Encoder
from textclf.errors import RecipeError, TrainingError
from textclf.recipe.reading import load_recipe
from textclf.recipe.settings import TrainingSettings
from textclf.terminal.progress import Progress
from textclf.training.loop import Fitted
from textclf.training.model import Part
from textclf.training.optimizer import AdamW
from textclf.training.question_answering.measures import PADDING_LOGIT
from textclf.training.question_answering.model import SpanModel
from textclf.training.question_answering.task import QuestionAnswering
from textclf.training.saved.run_folder import load_state
from textclf.training.step import TrainingStep


def span_model(**changes: object) -> SpanModel:
    return SpanModel(tiny_checkpoint(attention_probs_dropout_prob=0.0, **changes), seed=1)


def part_of(rows: int = 6, length: int = 20) -> Part:
    random = np.random.default_rng(2)
    tokens = token_arrays(rows, length, padding=4)
    targets = np.sort(random.integers(1, length - 4, (rows, 2))).astype(np.int32)
    targets[0] = 0
    return Part(tokens, targets, np.ones(rows, np.float32))


def step_of(model: SpanModel, **changes: object) -> TrainingStep:
    import tensorflow as tf

    settings = TrainingSettings(**changes)
    optimizer = AdamW(model.variables, 0.01, 1.0, decayed_from=settings.frozen_layers or 0)
    return TrainingStep(model, optimizer, settings, tf.float32)


# --- The model -------------------------------------------------------------------------------------------------------
def test_every_window_counts_once_as_in_run_squad(tmp_path):
    recipe, data, checkpoint = prepared(load_recipe(write_question_recipe(tmp_path, questions=30)))
    training = QuestionAnswering(data, checkpoint, recipe.training, seed=0)
    assert len(data.windows["train"]) > len(data.dataset.train.rows)
    assert training.row_weights.tolist() == [1.0] * len(data.windows["train"])


def test_the_loss_of_a_window_is_the_mean_of_the_cross_entropies_of_its_start_and_its_end():
    model, part = span_model(), part_of()
    logits = model.predict_logits(part.tokens)
    expected = []
    for row, (start, end) in enumerate(part.targets):
        # 16 tokens; the rest is padding.
        costs = np.log(np.exp(logits[row, :16]).sum(axis=0)) - [logits[row, start, 0], logits[row, end, 1]]
        expected.append(costs.mean())
    loss, _ = step_of(model)([part], 1e-3, 1, 0)
    assert loss == pytest.approx(np.mean(expected), rel=1e-5)
    assert (logits[:, 16:] == PADDING_LOGIT).all()
    assert (np.abs(logits[:, :16]) < 100).all()


def test_longer_padding_changes_no_logit_and_no_loss():
    model, part = span_model(), part_of()
    longer = Tokens(*(np.pad(array, ((0, 0), (0, 16))) for array in part.tokens))
    logits = model.predict_logits(part.tokens)
    np.testing.assert_allclose(model.predict_logits(longer)[:, :20], logits, atol=1e-5)
    first = step_of(span_model())([part], 1e-3, 1, 0)
    assert step_of(span_model())([part._replace(tokens=longer)], 1e-3, 1, 0) == pytest.approx(first, rel=1e-5)


def test_a_step_in_parts_is_the_step_of_the_whole_batch():
    whole, parts = span_model(), span_model()
    part = part_of()
    halves = [
        Part(Tokens(*(a[rows] for a in part.tokens)), part.targets[rows], part.weights[rows])
        for rows in (slice(2), slice(2, 6))
    ]
    whole_step, parts_step = step_of(whole), step_of(parts, accumulate=2)
    for number in range(3):
        expected = whole_step([part], 1e-3, 1, number)
        assert parts_step(halves, 1e-3, 1, number) == pytest.approx(expected, rel=1e-4)
    for name, variable in whole.variables.items():
        np.testing.assert_allclose(parts.variables[name], variable, atol=2e-5, err_msg=name)


def test_what_is_frozen_keeps_its_bits():
    model = span_model()
    step, before = step_of(model, freeze=1), model.state()
    step([part_of()], 1e-2, 1, 0)
    for name, after in model.state().items():
        if name.startswith("embeddings/"):
            np.testing.assert_array_equal(after, before[name], err_msg=name)
        elif name.startswith("layers/"):
            np.testing.assert_array_equal(after[0], before[name][0], err_msg=name)
    assert (model.state()["layers/value/kernel"][1] != before["layers/value/kernel"][1]).any()
    assert (model.state()["head/kernel"] != before["head/kernel"]).any()


# --- The training ----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prizes")
    encoder = write_tiny_encoder(folder / "encoder")
    # After three epochs the model has just begun to answer, so rounding or another seed changes by far how many answers are
    # right. After twelve, all are, with bfloat16 too.
    return write_question_recipe(folder, epochs=3, precision="float32", encoder=encoder)


@pytest.fixture(scope="module")
def whole(recipe: Path) -> Fitted:
    return fit_questions(recipe.parent / "run", textclf.load_recipe(recipe))


def test_questions_are_learned_and_the_best_epoch_has_the_highest_f1(whole: Fitted):
    [result] = whole.results
    assert [entry["epoch"] for entry in result.history] == [1, 2, 3]
    assert set(result.history[0]) == {
        "epoch", "training_loss", "validation_loss", "validation_exact_match", "validation_f1"
    }  # fmt: skip
    f1 = [entry["validation_f1"] for entry in result.history]
    assert max(f1) > 0.8
    assert result.best_entry["validation_f1"] == max(f1)
    assert result.scores["validation"]["f1"] == pytest.approx(max(f1))
    assert result.scores["test"]["exact_match"] > 0.7
    task = whole.task
    assert task.summary == "120 questions"
    assert len(task.targets) > 120, "some contexts need two windows"
    assert task.guessing == pytest.approx(np.log(task._data.windows["train"].encoded.lengths).mean())


def test_questions_without_an_answer_get_none_by_the_bound_of_the_validation_questions(whole: Fitted):
    task: QuestionAnswering = whole.task
    found = task.measure_validation(task.logits("validation"))
    always = task.measure("validation", task.logits("validation"), None)
    assert found.null_bound is not None
    assert found.metrics.no_answer.exact_match > always.metrics.no_answer.exact_match
    assert found.metrics.f1 > always.metrics.f1


def test_a_run_killed_at_a_random_step_is_resumed_to_the_same_bits(whole: Fitted, recipe: Path, tmp_path: Path):
    step = int(np.random.default_rng().integers(3, 20))
    log = tmp_path / ".killed.unfinished" / "log.jsonl"
    command = [sys.executable, "-m", "tests.questions", str(tmp_path / "killed"), str(recipe)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2]) as process:
        while process.poll() is None:
            if log.exists() and log.read_text().count('"event": "step"') >= step:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.001)
    assert process.returncode == -signal.SIGKILL, f"the run ended before step {step}"
    resumed = fit_questions(tmp_path / "killed", textclf.load_recipe(recipe), resume=True)
    assert resumed.results == whole.results
    for name, array in resumed.task.model.state().items():
        np.testing.assert_array_equal(array, whole.task.model.state()[name], err_msg=f"{name}, killed at step {step}")
    best = [
        load_state(run / "checkpoints" / "best-1.safetensors")[0]
        for run in (log.parent, recipe.parent / ".run.unfinished")
    ]
    assert all(np.array_equal(best[0][name], best[1][name]) for name in best[1])


def test_an_encoder_whose_first_token_is_enormous_begins_at_the_loss_of_guessing(recipe: Path):
    settings, data, _ = prepared(textclf.load_recipe(recipe))
    checkpoint = tiny_checkpoint()
    # As in the published encoder, the state of the first token reaches 1e7 in one number, which later layers ignore.
    weights = dict(checkpoint.weights)
    positions = weights["embeddings/position_embeddings"].copy()
    positions[0, 3] = 2e7
    weights["embeddings/position_embeddings"] = positions
    for layer in range(2):
        for name in ("bottleneck/input/dense", "bottleneck/attention/dense", "attention/self/value"):
            kernel = weights[f"encoder/layer_{layer}/{name}/kernel"].copy()
            kernel[3] = 0
            weights[f"encoder/layer_{layer}/{name}/kernel"] = kernel
    checkpoint = replace(checkpoint, weights=weights)
    states = Encoder(checkpoint).encode(*token_arrays(1, 12)).sequence_output
    assert np.abs(states[0, 0]).max() > 1e6 > 1e3 > np.abs(states[0, 1:]).max()
    task = QuestionAnswering(data, checkpoint, settings.training, 1)
    task.standardize(Progress(quiet=True))
    loss = task.epoch_entry(1, 1.0, task.logits("validation"))["validation_loss"]
    assert loss == pytest.approx(np.log(data.windows["validation"].encoded.lengths).mean(), abs=0.3)


def test_a_published_head_answers_without_training_and_is_the_start_of_one(recipe: Path, tmp_path: Path):
    encoder = write_with_head(tmp_path / "published", "model.safetensors", tiny_checkpoint())
    untrained = textclf.load_recipe(recipe, [f"encoder.source={encoder}", "training.epochs=0"])
    fitted = fit_questions(tmp_path / "untrained", untrained)
    [entry] = fitted.results[0].history
    assert (entry["epoch"], entry["training_loss"], fitted.winner.best_epoch) == (0, None, 0)
    head = fitted.task.model.head()
    np.testing.assert_array_equal(head["head/kernel"], KERNEL)
    np.testing.assert_array_equal(head["head/bias"], BIAS)
    assert (head["features/mean"] == 0).all()
    assert (head["features/scale"] == 1).all()
    for name, array in fitted.task.model.encoder_weights().items():
        np.testing.assert_array_equal(array, tiny_checkpoint().weights[name], err_msg=name)
    tokens = token_arrays(2, 20)
    states = Encoder(tiny_checkpoint()).encode(*tokens).sequence_output
    np.testing.assert_allclose(fitted.task.model.predict_logits(tokens), states @ KERNEL + BIAS, atol=1e-4)
    trained = fit_questions(
        tmp_path / "trained", textclf.load_recipe(recipe, [f"encoder.source={encoder}", "training.epochs=1"])
    )
    first = trained.results[0].history[0]
    assert (first["epoch"], first["validation_f1"]) == (0, entry["validation_f1"])
    assert first["validation_loss"] <= entry["validation_loss"] + 0.01


def test_a_published_head_that_is_too_sure_is_cooled_before_a_training_and_answers_as_before(recipe: Path):
    settings, data, _ = prepared(textclf.load_recipe(recipe))
    sure = {
        "kernel": StoredArray("kernel", KERNEL.shape, lambda: 12 * KERNEL),
        "bias": StoredArray("bias", BIAS.shape, lambda: BIAS),
    }
    task = QuestionAnswering(data, replace(tiny_checkpoint(), question_head=sure), settings.training, 1)
    task.standardize(Progress(quiet=True))
    before = task.logits("validation")
    assert task.fit_first_head(Progress(quiet=True))
    after = task.logits("validation")
    losses = [task.epoch_entry(0, None, logits)["validation_loss"] for logits in (before, after)]
    guessing = np.log(data.windows["validation"].encoded.lengths).mean()
    assert losses[0] > guessing + 1
    assert losses[1] < guessing + 0.3
    np.testing.assert_array_equal(before.argmax(axis=1), after.argmax(axis=1))


def test_no_epochs_and_no_head_is_an_error_that_says_what_to_do(recipe: Path, tmp_path: Path):
    untrained = textclf.load_recipe(recipe, ["training.epochs=0"])
    with pytest.raises(
        RecipeError,
        match=r"training\.epochs is 0, but .*encoder has no head for question answering.*set training\.epochs to 1 or more, or "
        r"use an encoder with such a head \(cls/squad/output_weights",
    ):
        fit_questions(tmp_path / "run", untrained)


# --- What goes wrong -------------------------------------------------------------------------------------------------
def test_a_training_that_learns_nothing_is_reported(recipe: Path, tmp_path: Path):
    settings = ["training.epochs=1", "training.learning_rate=1e-9", "training.freeze=2"]
    fitted = fit_questions(tmp_path / "run", textclf.load_recipe(recipe, settings))
    [warning] = fitted.results[0].warnings
    assert "the model learned nothing from the questions; check that dataset.question, dataset.context and" in warning


def test_a_model_that_answers_no_question_is_reported(whole: Fitted):
    # Wrong answers alone, of which those to questions without an answer cost something.
    logits = np.full((len(whole.task._data.windows["validation"]), 40, 2), -5, np.float32)
    logits[:, 12] = 5
    entry = {"epoch": 1, "training_loss": 0.1, "validation_loss": 0.1}
    [trouble] = whole.task.epoch_troubles([entry], logits)
    assert (trouble.watcher, "answers none of the validation questions" in trouble.message) == ("one_class", True)


def test_a_training_that_diverges_ends_with_what_to_change(recipe: Path, tmp_path: Path):
    with pytest.raises(TrainingError, match=r"lower training\.learning_rate"):
        fit_questions(
            tmp_path / "run", textclf.load_recipe(recipe, ["training.learning_rate=1", "training.clip_norm=1e30"])
        )


def test_averaged_words_cannot_answer_questions(tmp_path: Path):
    from textclf.encoders.average_words import find_words
    from textclf.encoders.trainable import trainable
    from textclf.errors import EncoderError

    words = trainable(find_words(["what do i win"], 100, 8, True))
    with pytest.raises(
        EncoderError, match=r"averaged words have no state for each token.*set encoder\.source to a MobileBERT"
    ):
        words.states({}, token_arrays(1, 8), None, None, None)


def test_the_log_holds_every_step_of_the_run(whole: Fitted, recipe: Path):
    lines = (recipe.parent / ".run.unfinished" / "log.jsonl").read_text().splitlines()
    epochs = [entry for entry in map(json.loads, lines) if entry["event"] == "epoch"]
    assert [entry["validation_f1"] for entry in epochs] == [
        entry["validation_f1"] for entry in whole.results[0].history
    ]
