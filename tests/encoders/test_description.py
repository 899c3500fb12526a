"""What `textclf encoder` says: the facts, a fingerprint that no format changes, and the published values."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.command import run
from tests.encoder_writers import write_hugging_face
from tests.tiny import tiny_checkpoint
from textclf.encoders.checkpoint import EncoderCheckpoint, MobileBertConfig, expected_shapes
from textclf.encoders.description import describe, format_description, golden_check
from textclf.encoders.formats import read_encoder

PUBLISHED = np.array(
    [
        [-2.4736526e7, 8.2691656e4, 1.6521838e5],
        [-0.57541704, 3.9056022, 4.4011507],
        [2.6047359, 1.5677652, -0.17324188],
    ]
)


def test_the_facts_are_those_of_the_encoder() -> None:
    facts = describe(tiny_checkpoint())
    assert json.loads(json.dumps(facts)) == facts
    assert facts["vocabulary"] == {"pieces": len(tiny_checkpoint().vocabulary), "do_lower_case": True}
    assert facts["configuration"]["num_hidden_layers"] == 2
    assert (facts["format"], facts["path"], facts["mask_convention"]) == ("tiny", "tiny", "additive")


def test_the_published_size_has_the_published_number_of_parameters() -> None:
    config = MobileBertConfig()
    weights = {name: np.broadcast_to(np.float32(0), shape) for name, shape in expected_shapes(config).items()}
    checkpoint = EncoderCheckpoint(config, weights, [], True, "additive", "", Path())
    lines = format_description(describe(checkpoint)).splitlines()
    assert "parameters                    24,581,888" in lines
    assert "classifier_activation         false" in lines


def test_the_fingerprint_is_of_the_content_and_not_of_the_format(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint()
    write_hugging_face(tmp_path, checkpoint)
    assert read_encoder(tmp_path).fingerprint() == checkpoint.fingerprint()
    changed = replace(checkpoint, weights={name: array.copy() for name, array in checkpoint.weights.items()})
    changed.weights["embeddings/word_embeddings"][0, 0] += 1e-6
    others = (changed, replace(checkpoint, mask_convention="scaled"), replace(checkpoint, do_lower_case=False))
    assert len({other.fingerprint() for other in (checkpoint, *others)}) == 4


def _published(states: np.ndarray) -> SimpleNamespace:
    """Stands for the real encoder, which is too large for a test: it answers the golden question with `states`."""
    vocabulary = [f"piece{number}" for number in range(30522)]
    for number, piece in {101: "[CLS]", 102: "[SEP]", 1005: "'", 1029: "?", 1056: "t", 2023: "this"}.items():
        vocabulary[number] = piece
    checkpoint = EncoderCheckpoint(MobileBertConfig(), {}, vocabulary, True, "additive", "", Path())

    def encode(input_ids: np.ndarray, input_mask: np.ndarray, segment_ids: np.ndarray) -> SimpleNamespace:
        assert input_ids.tolist() == [[101, 7110, 1005, 1056, 2023, 11333, 17413, 1029, 102]]
        assert input_mask.all()
        assert not segment_ids.any()
        output = np.zeros((1, 9, 512), np.float32)
        output[0, :3, :3] = states
        return SimpleNamespace(sequence_output=output)

    return SimpleNamespace(checkpoint=checkpoint, encode=encode)


@pytest.mark.parametrize(("change", "passed"), [(0, True), (9e-4, True), (-9e-4, True), (1.1e-3, False), (-2, False)])
def test_the_published_values_are_compared_by_ratio(change: float, passed: bool) -> None:
    states = PUBLISHED.copy()
    states[2, 2] *= 1 + change
    check = golden_check(_published(states))
    assert check.applies
    assert check.passed is passed
    assert check.largest_error == pytest.approx(abs(change), abs=1e-6)


def test_an_encoder_that_is_another_one_is_not_compared() -> None:
    check = golden_check(SimpleNamespace(checkpoint=tiny_checkpoint()))
    assert (check.applies, check.passed, check.largest_error) == (False, None, None)
    cased = _published(PUBLISHED)
    cased.checkpoint.vocabulary[2023] = "This"
    assert not golden_check(cased).applies


def test_the_command_prints_the_facts_of_any_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_hugging_face(tmp_path, tiny_checkpoint())
    assert run("encoder", tmp_path, "--json", "--offline") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["source"] == facts["path"] == str(tmp_path)
    assert facts["format"] == "hugging_face"
    assert facts["sha256"] == tiny_checkpoint().fingerprint()
    assert run("encoder", tmp_path, "--check") == 0
    assert "not applicable" in capsys.readouterr().out


def test_the_command_says_what_is_wrong_without_a_traceback(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("encoder", tmp_path) == 2
    message = capfd.readouterr().err
    assert "no encoder was recognised" in message
    assert "Traceback" not in message
