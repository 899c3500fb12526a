"""Recipes with several labels per row: the keys decide the task, and contradictions are errors with their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from textclf.errors import RecipeError
from textclf.recipe.reading import load_recipe
from textclf.recipe.writing import dump_recipe

SEPARATED = 'name: topics\ndataset:\n  train: a.csv\n  label: topics\n  label_separator: "|"\n'
COLUMNS = "name: topics\ndataset:\n  train: a.csv\n  labels_from: [urgent, angry]\n"


@pytest.fixture
def recipe_of(tmp_path: Path):
    def read(text: str, *overrides: str):
        (tmp_path / "recipe.yaml").write_text(text)
        return load_recipe(tmp_path / "recipe.yaml", overrides)

    return read


@pytest.fixture
def problems(recipe_of):
    def found(text: str, *overrides: str) -> list[str]:
        with pytest.raises(RecipeError) as caught:
            recipe_of(text, *overrides)
        return [line.partition("recipe.yaml:")[2] for line in str(caught.value).splitlines()]

    return found


@pytest.mark.parametrize("text", [SEPARATED, COLUMNS])
def test_the_keys_of_the_dataset_decide_the_task_and_the_recipe_is_written_and_read_back(recipe_of, text):
    recipe = recipe_of(text)
    assert recipe.has_several_labels
    assert recipe.task == "multi-label-classification"
    assert recipe_of(dump_recipe(recipe)) == recipe


def test_the_separator_is_written_as_a_delimiter_is(recipe_of, problems):
    assert recipe_of(SEPARATED.replace('"|"', "semicolon")).dataset.label_separator == ";"
    assert recipe_of("name: topics\ndataset: {train: a.csv}\n", "dataset.label_separator=,").has_several_labels
    assert not recipe_of(SEPARATED.replace('"|"', "null")).has_several_labels
    [problem] = problems(SEPARATED.replace('"|"', "and"))
    assert problem.startswith("5:20: dataset.label_separator is `and`, which cannot separate labels")


def test_a_task_that_contradicts_the_keys_is_an_error(problems):
    [problem] = problems("task: text-classification\n" + SEPARATED)
    assert (
        "dataset.label_separator belongs to the task multi-label-classification; remove the line, or set task"
        in problem
    )
    [problem] = problems("task: question-answering\nname: topics\ndataset:\n  train: a.csv\n  labels_from: [a, b]\n")
    assert "dataset.labels_from belongs to the task multi-label-classification; remove the line" in problem


def test_settings_of_one_label_per_row_are_refused_with_the_reason(problems):
    found = problems(
        SEPARATED
        + "  unlabelled: skip\ntraining:\n  label_smoothing: 0.1\n  engine: model-maker\nexport:\n  reject_label: x\n"
    )
    assert any("a row without a label is one to which no label applies; remove the line" in one for one in found)
    assert any("the probability of each label is calibrated separately" in one for one in found)
    assert any("a row whose labels are all too improbable gets none" in one for one in found)
    assert any("training.engine is model-maker, which learns one label per row" in one for one in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (COLUMNS + "  label: topics\n", "dataset.label and dataset.labels_from are both set"),
        (COLUMNS + '  label_separator: ";"\n', "dataset.label_separator and dataset.labels_from are both set"),
        (COLUMNS.replace("angry", "urgent"), "names the column `urgent` twice"),
        (COLUMNS.replace(", angry", ""), "names 1 column, but must name two or more"),
        (COLUMNS.replace("angry", "text"), "dataset.labels_from and dataset.text both name the column `text`"),
        (COLUMNS.replace("angry", '"a|b"'), "which contains `|`, the separator of the labels of a row; rename it"),
        (SEPARATED + '  labels: [a, "b|c"]\n', "dataset.labels names the label `b|c`, which contains `|`"),
        (COLUMNS + "  columns: [text, urgent]\n", "dataset.labels_from names the column `angry`, which is not in"),
    ],
)
def test_labels_have_one_source_and_can_be_separated(problems, text, expected):
    [problem] = problems(text)
    assert expected in problem
