"""From trained weights to the folder that ships: config.json, encoder.safetensors (int8) and vocab.txt.

    python -m pretraining.export RUN OUT [--split-mib 15]

writes every student of a run folder as OUT/NAME, from the state that was saved last.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from textclf.encoders.checkpoint import EncoderCheckpoint, MobileBertConfig
from textclf.encoders.formats.textclf_format import WEIGHTS_FILE, write_encoder
from textclf.errors import TextclfError
from textclf.files.writing import write_bytes


def export(
    folder: Path, config: MobileBertConfig, weights: Mapping[str, np.ndarray], vocabulary: Sequence[str]
) -> None:
    """Matrices become int8 with a scale for each output or row. An existing folder is replaced file by file."""
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


def split(folder: Path, mib: int) -> None:
    """Replaces encoder.safetensors by parts of at most `mib` MiB: `encoder.safetensors.0` and so on.

    `cat encoder.safetensors.? > encoder.safetensors` joins them again.
    """
    file = folder / WEIGHTS_FILE
    content, size = file.read_bytes(), mib << 20
    for number, start in enumerate(range(0, len(content), size)):
        write_bytes(folder / f"{WEIGHTS_FILE}.{number}", content[start : start + size])
    file.unlink()


def export_run(run: Path, out: Path, split_mib: int | None = None) -> None:
    """Raises RunError for a folder that is not a run of `pretraining.distil` or has no saved state yet."""
    from pretraining.run_folder import RunFolder

    folder = RunFolder(run)
    settings, vocabulary, state = folder.settings(), folder.vocabulary(), folder.state("cpu")
    for name, student in settings.students.items():
        weights = {key: value.float().numpy() for key, value in state["students"][name]["weights"].items()}
        export(out / name, student.config, weights, vocabulary)
        if split_mib:
            split(out / name, split_mib)
        print(f"{name}: {out / name}")


def positive(text: str) -> int:
    """Reads a number of the command line."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pretraining.export", description="Writes the encoders of a run.")
    parser.add_argument("run", type=Path, help="run folder of pretraining.distil")
    parser.add_argument("out", type=Path, help="folder for one folder per student")
    parser.add_argument(
        "--split-mib", type=positive, help="split encoder.safetensors into parts of at most this many MiB"
    )
    given = parser.parse_args(arguments)
    try:
        export_run(given.run, given.out, given.split_mib)
    except TextclfError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
