"""The settings inside a model: each is checked, and a later version is refused by name."""

from __future__ import annotations

import json

import pytest

from textclf.errors import ModelError
from textclf.recipe.values import quoted
from textclf.tflite.settings import SETTINGS_VERSION, read_settings


def read(**settings: object) -> dict:
    return read_settings("m.tflite", json.dumps(settings).encode())


def test_settings_without_a_version_are_read_as_before_and_unknown_ones_are_kept():
    settings = {"tokenizer": "device", "text": ["review"], "label": None, "reject_below": 0, "of_another_day": [1]}
    assert read(**settings) == settings
    assert read(version=SETTINGS_VERSION) == {"version": SETTINGS_VERSION}


def test_a_later_version_is_refused_with_what_to_do():
    with pytest.raises(
        ModelError, match=r"^m\.tflite: was written by a newer textclf: .* has version `2`, .* reads version 1; update"
    ):
        read(version=2, text=7)


@pytest.mark.parametrize("task", ["translation", "", None, 1, ["text-classification"]])
def test_a_task_that_is_not_known_is_refused_with_those_that_are(task):
    with pytest.raises(
        ModelError,
        match="this textclf knows text-classification, multi-label-classification, question-answering; update",
    ) as caught:
        read_settings("m.tflite", json.dumps({"version": 1, "task": task}).encode())
    assert f"m.tflite: `task` of textclf.json in it is {quoted(json.dumps(task))}" in str(caught.value)


def test_a_model_names_its_task_unless_it_is_text_classification():
    assert "task" not in read_settings("m.tflite", b"{}")
    for task in ("text-classification", "question-answering"):
        assert read_settings("m.tflite", json.dumps({"task": task}).encode())["task"] == task


@pytest.mark.parametrize("version", [0, -1, True, 1.0, "1", None, [1], 10**20])
def test_versions_that_are_none_are_refused(version):
    with pytest.raises(ModelError, match="version"):
        read(version=version)


WRONG = {
    "tokenizer": [None, 5, "Device", ["device"], "sentencepiece"],
    "text": [5, "review", [1], [""], ["a", "b", "c"], {"a": 1}, [["a"]], ["x" * 10_001], ["\ud800"], None],
    "label": [5, "", ["a"], True, "\udfff"],
    "overflow": ["middle", 1, None, ["head"]],
    "quantization": [[1], "int2", None, {}],
    "compatibility": ["zzz", 1, None, ["litert"]],
    "vocabulary_sha256": [1, "abc", "é" * 64, "-" * 64, None],
    "reject_below": ["0.5", [1], -0.1, 1.1, True, None, float("nan"), float("inf"), 10**400],
    "reject_label": [5, None, ["a"], "\ud83d"],
    "fixed_length": ["yes", 1, None],
    "engine": [5, None],
    "question": [5, "", None, ["q"]],
    "context": [5, "", None],
    "stride": [0, -1, 1.5, True, "128", None, 513],
    "question_length": [0, 64.0, None, 10**30],
    "null_bound": ["0", True, float("nan"), float("inf"), [0]],
    "temperature": [0, -1, None, True, float("inf"), 1001],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values])
def test_a_value_of_another_kind_is_named_with_its_key(key, value):
    with pytest.raises(
        ModelError, match=rf"^m\.tflite: (`{key}` of textclf\.json in it is `.*expected|textclf\.json in it)"
    ):
        read(**{key: value})
