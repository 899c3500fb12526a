"""Describes an encoder for `textclf encoder`: its facts, its fingerprint, and whether it is the published one.

The functions take a loaded checkpoint or encoder and return plain values for JSON or for a terminal.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from textclf.encoders.checkpoint import EncoderCheckpoint, MobileBertConfig
from textclf.encoders.sources.locate import load_checkpoint

# transformers' integration test of google/mobilebert-uncased: token ids, and the first 3 × 3 of the last hidden state.
_GOLDEN_IDS = (101, 7110, 1005, 1056, 2023, 11333, 17413, 1029, 102)
_GOLDEN_STATES = (
    (-2.4736526e7, 8.2691656e4, 1.6521838e5),
    (-5.7541704e-1, 3.9056022e0, 4.4011507e0),
    (2.6047359e0, 1.5677652e0, -1.7324188e-1),
)
_GOLDEN_TOKENS = {101: "[CLS]", 102: "[SEP]", 1005: "'", 1029: "?", 1056: "t", 2023: "this"}
# Some states are 1e7, others 1e-1, so their ratios are compared.
_GOLDEN_TOLERANCE = 1e-3


class _Output(Protocol):
    @property
    def sequence_output(self) -> np.ndarray: ...


class _Encoder(Protocol):
    checkpoint: EncoderCheckpoint

    def encode(self, input_ids: np.ndarray, input_mask: np.ndarray, segment_ids: np.ndarray) -> _Output: ...


@dataclass(frozen=True)
class GoldenCheck:
    """`applies`: the encoder has the configuration and vocabulary of google/mobilebert-uncased. `passed` and
    `largest_error` (of the ratios to the published values) are None if it does not apply."""

    applies: bool
    passed: bool | None
    largest_error: float | None
    message: str


def describe(checkpoint: EncoderCheckpoint) -> dict[str, Any]:
    """Returns the facts of an encoder as JSON values."""
    return {
        "format": checkpoint.format,
        "path": str(checkpoint.path),
        "parameters": sum(array.size for array in checkpoint.weights.values()),
        "configuration": asdict(checkpoint.config),
        "vocabulary": {"pieces": len(checkpoint.vocabulary), "do_lower_case": checkpoint.do_lower_case},
        "mask_convention": checkpoint.mask_convention,
        "sha256": checkpoint.fingerprint(),
    }


def format_description(description: dict[str, Any]) -> str:
    """Returns the facts of `describe` as lines of text."""
    vocabulary, configuration = description["vocabulary"], description["configuration"]
    case = "lower-cased" if vocabulary["do_lower_case"] else "cased"
    lines = {
        "format": description["format"],
        "path": description["path"],
        "parameters": f"{description['parameters']:,}",
        "vocabulary": f"{vocabulary['pieces']:,} tokens, {case}",
        "mask": description["mask_convention"],
        "sha256": description["sha256"],
        **{key: str(value).lower() if isinstance(value, bool) else value for key, value in configuration.items()},
    }
    if "golden_check" in description:
        lines["check"] = description["golden_check"]["message"]
    width = max(map(len, lines))
    return "\n".join(f"{key:<{width}}  {value}" for key, value in lines.items())


def golden_check(encoder: _Encoder) -> GoldenCheck:
    """Compares an encoder that looks like google/mobilebert-uncased with its published values, by ratio."""
    checkpoint = encoder.checkpoint
    if checkpoint.config != MobileBertConfig() or any(
        checkpoint.vocabulary[number] != token for number, token in _GOLDEN_TOKENS.items()
    ):
        return GoldenCheck(
            False,
            None,
            None,
            "not applicable: the configuration or the vocabulary is not that of google/mobilebert-uncased",
        )
    input_ids = np.array([_GOLDEN_IDS], np.int32)
    output = encoder.encode(input_ids, np.ones_like(input_ids), np.zeros_like(input_ids))
    ratios = np.asarray(output.sequence_output, np.float64)[0, :3, :3] / np.array(_GOLDEN_STATES)
    largest_error = float(np.abs(ratios - 1).max())
    passed = largest_error <= _GOLDEN_TOLERANCE
    verdict = "returns the published values" if passed else "does not return the published values"
    return GoldenCheck(
        True,
        passed,
        largest_error,
        f"{verdict} of google/mobilebert-uncased (largest error {largest_error:.1e} of the value,"
        f" {_GOLDEN_TOLERANCE:.0e} allowed)",
    )


def checked_description(source: str, *, golden: bool) -> dict[str, Any]:
    """Returns `describe` for the encoder that `source` names; with `golden`, the result of `golden_check` under that key."""
    checkpoint = load_checkpoint(source)
    description = {"source": source, **describe(checkpoint)}
    if golden:
        # TensorFlow takes seconds to load, and only this needs it.
        from textclf.encoders.mobilebert import Encoder

        description["golden_check"] = asdict(golden_check(Encoder(checkpoint)))
    return description
