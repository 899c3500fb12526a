"""Recipes of question answering: their defaults, and settings that do not fit the task."""

from __future__ import annotations

from pathlib import Path

import pytest

from textclf.errors import RecipeError
from textclf.recipe.automatic import settle_epochs
from textclf.recipe.reading import load_recipe
from textclf.recipe.settings import Recipe
from textclf.recipe.writing import dump_recipe

QUESTIONS = "name: help\ntask: question-answering\ndataset:\n  train: help.json\n"
TEXTS = "name: help\ndataset:\n  train: help.csv\n"


@pytest.fixture
def recipe(tmp_path: Path):
    """Writes a recipe and loads it."""

    def load(text: str, *overrides: str) -> Recipe:
        (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
        return load_recipe(tmp_path / "recipe.yaml", overrides)

    return load


@pytest.fixture
def problems(recipe, tmp_path: Path):
    """The lines of the error that a recipe causes, with the name of its file taken off."""

    def collect(text: str, *overrides: str) -> list[str]:
        with pytest.raises(RecipeError) as caught:
            recipe(text, *overrides)
        return [line.replace(str(tmp_path / "recipe.yaml") + ":", "") for line in str(caught.value).splitlines()]

    return collect


def test_the_defaults_are_those_of_run_squad_and_of_the_task_library(recipe):
    loaded = recipe(QUESTIONS)
    dataset, encoder = loaded.dataset, loaded.encoder
    assert (dataset.question, dataset.context, dataset.answer) == ("question", "context", "answer")
    assert (dataset.answer_start, dataset.id) == (None, None)
    assert (encoder.max_length, encoder.stride, encoder.question_length) == (384, 128, 64)
    assert (loaded.training.learning_rate, loaded.training.batch_size, loaded.training.warmup) == (4e-5, 32, 0.1)
    assert loaded.export.compatibility == "task-library"
    assert settle_epochs(loaded, 10).training.epochs == 5


def test_defaults_do_not_replace_what_is_written(recipe):
    loaded = recipe(
        QUESTIONS + "encoder:\n  max_length: 256\n  stride: 64\ntraining: {learning_rate: 1e-4}\n"
        "export: {compatibility: litert}\n",
        "dataset.train=help.csv",
        "dataset.question=ask",
        "encoder=builtin:mobilebert-small",
    )
    assert (loaded.encoder.source, loaded.encoder.max_length) == ("builtin:mobilebert-small", 384)
    assert (loaded.dataset.question, loaded.dataset.context) == ("ask", "context")
    assert (loaded.training.learning_rate, loaded.export.compatibility) == (1e-4, "litert")


def test_the_short_form_of_the_encoder_has_the_defaults_too(recipe):
    assert recipe(QUESTIONS + "encoder: builtin:mobilebert-small\n").encoder.stride == 128


def test_builtin_is_the_encoder_that_suits_the_task(recipe):
    for written in ("", "encoder: builtin\n", "encoder: {source: builtin, stride: 64}\n", "encoder: {stride: 64}\n"):
        assert recipe(QUESTIONS + written).encoder.source == "builtin:mobilebert-small-qa"
    assert recipe(QUESTIONS, "encoder=builtin").encoder.source == "builtin:mobilebert-small-qa"
    assert Recipe.model_validate(recipe(QUESTIONS)).encoder.source == "builtin:mobilebert-small-qa"
    assert recipe(TEXTS).encoder.source == "builtin"
    medium = recipe(QUESTIONS, "encoder=builtin:mobilebert-medium").encoder
    assert (medium.source, medium.max_length) == ("builtin:mobilebert-medium", 384)


def test_a_recipe_for_texts_has_none_of_these_settings(recipe):
    loaded = recipe(TEXTS)
    assert (loaded.dataset.question, loaded.encoder.stride, loaded.encoder.max_length) == (None, None, 128)
    dumped = dump_recipe(loaded)
    for name in ("question", "context", "answer", "stride"):
        assert f"{name}:" not in dumped


def test_a_dumped_recipe_is_read_as_an_equal_one_and_has_no_setting_of_texts(recipe):
    loaded = recipe(QUESTIONS + "encoder: {stride: 100}\n")
    dumped = dump_recipe(loaded)
    assert recipe(dumped) == loaded
    assert "task: question-answering" in dumped
    for name in (" text:", " label:", "class_weights", "overflow", "reject_label"):
        assert name not in dumped


SETTINGS_OF_TEXTS = {
    "dataset.text=message": "belongs to the task text-classification; the text is in the columns of dataset.question and "
    "dataset.context; remove the line",
    "dataset.label=answer": "belongs to the task text-classification; the column of the answers is dataset.answer; remove",
    "dataset.labels=[a, b]": "belongs to the task text-classification; remove the line",
    "encoder.overflow=tail": "belongs to the task text-classification; a long context is read in windows; remove the line",
    "training.dropout=0.1": "belongs to the task text-classification; remove the line",
    "training.label_smoothing=0.1": "belongs to the task text-classification; remove the line",
    "training.class_weights=balanced": "belongs to the task text-classification; remove the line",
    "training.head=fresh": "belongs to the task text-classification; remove the line",
    "training.reject_for_precision=0.9": "belongs to the task text-classification; a question without an answer is learned",
    "export.reject_label=other": "belongs to the task text-classification; remove the line",
}


@pytest.mark.parametrize("setting", SETTINGS_OF_TEXTS)
def test_a_setting_of_texts_is_refused_by_name(problems, setting):
    (problem,) = problems(QUESTIONS, setting)
    assert f"{setting.partition('=')[0]} {SETTINGS_OF_TEXTS[setting]}" in problem


SETTINGS_OF_QUESTIONS = (
    "dataset.question=q",
    "dataset.context=c",
    "dataset.answer=a",
    "dataset.answer_start=s",
    "dataset.id=i",
    "encoder.question_length=32",
)


@pytest.mark.parametrize("setting", SETTINGS_OF_QUESTIONS)
def test_a_setting_of_questions_is_refused_in_a_recipe_for_texts(problems, setting):
    (problem,) = problems(TEXTS, setting)
    key = setting.partition("=")[0]
    assert f"{key} belongs to the task question-answering; remove the line, or set task: question-answering" in problem


def test_a_setting_of_the_other_task_is_named_with_its_line(problems):
    assert problems(QUESTIONS + "  label: intent\ntraining:\n  head: fitted\n") == [
        "5:10: dataset.label belongs to the task text-classification; the column of the answers is dataset.answer; remove "
        "the line",
        "7:9: training.head belongs to the task text-classification; remove the line",
    ]


def test_averaged_words_cannot_answer_questions(problems):
    assert problems(QUESTIONS + "encoder: average-words\n") == [
        "5:10: encoder.source is average-words, which adds up all words of a text and so cannot find an answer in it; use "
        "another encoder such as builtin"
    ]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["encoder.max_length=256"],
            "encoder.max_length is 256, but the Task Library's BertQuestionAnswerer demands 384 (export.compatibility is",
        ),
        (
            ["encoder.max_length=auto"],
            "encoder.max_length is auto, but the windows of question-answering have a fixed length",
        ),
        (
            ["encoder.stride=318"],
            "encoder.stride is 318, but a window of 384 tokens has room for only 317 of the context beside a question of 64",
        ),
        (["encoder.stride=0"], "encoder.stride is `0`, but must be 1 or more"),
        (["encoder.question_length=many"], "encoder.question_length is `many`, but must be a whole number"),
        (
            ["dataset.question=q"],
            "dataset.question is a setting of tables, but the recipe names SQuAD files (.json) only",
        ),
        (["dataset.delimiter=tab"], "dataset.delimiter is a setting of tables"),
        (["dataset.train=a.csv", "dataset.question=answer"], "dataset.answer and dataset.question are both the column"),
        (
            ["dataset.train=a.csv", "dataset.context=[a, b]"],
            "dataset.context is a list of columns, but must be one column",
        ),
        (
            ["export.quantization=int4"],
            "export.compatibility is task-library, whose runtime knows no weights of 4 bits",
        ),
    ],
)
def test_settings_that_do_not_fit_questions_are_refused(problems, overrides, expected):
    (problem,) = problems(QUESTIONS, *overrides)
    assert expected in problem


def test_columns_may_be_named_if_one_of_the_files_is_a_table(recipe):
    loaded = recipe(QUESTIONS, "dataset.test=help.csv", "dataset.question=ask", "dataset.delimiter=tab")
    assert loaded.dataset.question == "ask"


def test_model_maker_is_an_engine_for_questions_too(recipe, problems):
    assert recipe(QUESTIONS, "training.engine=model-maker").training.learning_rate == 4e-5
    (problem,) = problems(QUESTIONS, "training.engine=model-maker", "training.freeze=embeddings")
    assert "training.freeze is embeddings, but Model Maker trains the whole encoder" in problem


def test_windows_without_a_gap_are_allowed(recipe):
    assert recipe(QUESTIONS, "encoder.stride=317").encoder.stride == 317


def test_a_squad_file_in_place_of_a_recipe_is_recognised(tmp_path):
    (tmp_path / "help.json").write_text('{"version": "v2.0", "data": []}')
    with pytest.raises(
        RecipeError, match=r"this is a SQuAD file, not a recipe; write a recipe with `task: question-answ"
    ):
        load_recipe(tmp_path / "help.json")
