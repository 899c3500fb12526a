"""From arrays to the folder that ships: config.json, encoder.safetensors (int8) and vocab.txt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from textclf.encoders.checkpoint import EncoderCheckpoint, MobileBertConfig
from textclf.encoders.formats.textclf_format import write_encoder


def export(
    folder: Path, config: MobileBertConfig, weights: Mapping[str, np.ndarray], vocabulary: Sequence[str]
) -> None:
    """Matrices become int8 with a scale for each output or row; a folder that is there is replaced file by file."""
    checkpoint = EncoderCheckpoint(
        config=config,
        weights=dict(weights),
        vocabulary=list(vocabulary),
        do_lower_case=True,
        mask_convention="additive",
        format="textclf",
        path=folder,
    )
    write_encoder(folder, checkpoint, "int8")
