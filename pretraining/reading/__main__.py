"""Teaches an encoder to find answers in texts, in three commands:

python -m pretraining.reading questions train.json corpus-*.txt.xz --count 36000
textclf train pretraining/reading/recipe.yaml --run-dir RUN
python -m pretraining.reading export RUN OUT
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from pretraining.corpus import read_passages
from pretraining.reading.questions import questions
from pretraining.reading.similar import SimilarWords
from textclf.encoders.formats.textclf_format import BEST_CHECKPOINT, HEAD_FILE, write_encoder
from textclf.encoders.sources.locate import load_checkpoint
from textclf.errors import EncoderError, TextclfError
from textclf.files.writing import write_text


def write_questions(output: Path, files: Sequence[Path], count: int, seed: int, encoder: str) -> int:
    """Writes a SQuAD file with at most `count` questions; returns how many there are."""
    found = questions(read_passages(files), seed, SimilarWords(load_checkpoint(encoder)))
    paragraphs = [
        {
            "context": one.context,
            "qas": [
                {
                    "id": str(number),
                    "question": one.question,
                    "is_impossible": one.answer is None,
                    "answers": [] if one.answer is None else [{"text": one.answer, "answer_start": one.start}],
                }
            ],
        }
        for number, one in enumerate(islice(found, count))
    ]
    write_text(output, json.dumps({"version": "2.0", "data": [{"title": "", "paragraphs": paragraphs}]}))
    return len(paragraphs)


def export_run(run: Path, out: Path, base: str) -> None:
    """Writes the best checkpoint of a run as it ships: its changes to the built-in encoder `base`, and its head."""
    checkpoint = load_checkpoint(str(run))
    if not checkpoint.question_head:
        raise EncoderError(f"{run}: is no run of question answering; name the folder that `textclf train` wrote")
    write_encoder(out, checkpoint, base=load_checkpoint(base))
    shutil.copyfile(run / BEST_CHECKPOINT / HEAD_FILE, out / HEAD_FILE)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pretraining.reading", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("questions", help="make questions from plain text, a passage on each line")
    making.add_argument("output", type=Path, help="SQuAD file to write")
    making.add_argument("corpus", type=Path, nargs="+", help="text files, .txt or .txt.xz")
    making.add_argument("--count", type=int, default=50_000)
    making.add_argument("--seed", type=int, default=1)
    making.add_argument(
        "--encoder", default="builtin:mobilebert-small", help="whose embeddings say which words are similar"
    )
    exporting = commands.add_parser("export", help="write the encoder and the head of a run as they ship")
    exporting.add_argument("run", type=Path)
    exporting.add_argument("out", type=Path, help="a folder in textclf/encoders/builtin")
    exporting.add_argument("--base", default="builtin:mobilebert-small", help="the encoder from which the run started")
    given = parser.parse_args(arguments)
    try:
        if given.command == "questions":
            count = write_questions(given.output, given.corpus, given.count, given.seed, given.encoder)
            print(f"{given.output}: {count:,} questions")
        else:
            export_run(given.run, given.out, given.base)
    except TextclfError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
