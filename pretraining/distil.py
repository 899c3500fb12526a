"""Distils the built-in encoders: one command from text files to folders that `textclf` loads.

    python -m pretraining.distil --corpus CORPUS_FOLDER --run RUN_FOLDER

Stages: corpus, first weights, training, export. A stage whose result is in RUN_FOLDER is not repeated, so the same command
resumes an interrupted run.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from pretraining.attention import chosen_kernels
from pretraining.export import export, positive, split
from pretraining.learner import Learner
from pretraining.preparation import continued, held_out_texts, prepare, start
from pretraining.rows import BatchStream, Texts
from pretraining.run_folder import RunFolder
from pretraining.settings import DEFAULT, read_settings
from pretraining.training import Run, train
from textclf.errors import TextclfError


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        given = _arguments(arguments)
        if given.threads:
            torch.set_num_threads(given.threads)
        folder = RunFolder(given.run)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with folder.in_use(), chosen_kernels(device):
            return _distil(given, folder, device)
    except TextclfError as error:
        print(error, file=sys.stderr)
        return 2


def _distil(given: argparse.Namespace, folder: RunFolder, device: torch.device) -> int:
    bfloat16 = given.precision == "bfloat16" or (given.precision == "auto" and device.type == "cuda")
    settings = read_settings(given.settings, _budget(given))
    continued_from = continued(given.continue_from, settings)
    _say("reading the teachers and tokenizing the corpus, unless it was tokenized before")
    prepared = prepare(settings, given.corpus, given.run, given.minilm, given.mpnet)
    if given.prepare_only:
        return 0
    others = {
        "precision": "bfloat16" if bfloat16 else "float32",
        "minilm": prepared.minilm.fingerprint,
        "mpnet": prepared.mpnet.fingerprint if prepared.mpnet else None,
        "continued": {name: checkpoint.fingerprint() for name, checkpoint in continued_from.items()},
    }
    folder.agree(settings, others, prepared.minilm.vocabulary)

    learners = [Learner(name, settings, device) for name in settings.students]
    teachers = prepared.teachers(device, torch.bfloat16 if bfloat16 else torch.float32)
    run = Run(settings, teachers, learners, device, bfloat16=bfloat16)
    if folder.has_state:
        run.restore(folder.state(device))
        folder.rewind_log(run.progress.step)
    else:
        start(learners, settings, prepared, continued_from, device, _say)
        folder.save(run.state())
    _say(f"{folder.path}: {_standing(run)}, on {device} in {others['precision']}")

    def keep() -> None:
        folder.save(run.state())
        _export(run, given.export or folder.path / "encoders", given.split_mib)

    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    progress = run.progress
    stream = BatchStream(prepared.corpus, settings.mixture, settings.seed, device, progress.epoch, progress.batch)
    held_out = held_out_texts(settings, prepared.held_out, device)
    if given.compile:
        _compile(run, held_out[0])
    finished = train(run, stream, held_out, folder, keep, 60 * given.save_minutes)
    keep()
    _say(f"{folder.path}: {_standing(run)}{'' if finished else '; the same command resumes it'}")
    return 0


def _say(text: str) -> None:
    print(text, flush=True)


def _standing(run: Run) -> str:
    return f"{run.progress.step:,} steps, {run.progress.tokens:,} tokens ({run.share:.1%} of the budget)"


def _budget(given: argparse.Namespace) -> dict[str, float] | None:
    if given.tokens is None and given.seconds is None:
        return None
    return {"tokens": given.tokens} if given.seconds is None else {"seconds": given.seconds}


def _compile(run: Run, texts: Texts) -> None:
    """Compiles for the shapes of training, or says why not and continues without: a compiler may be missing."""
    run.compile()
    try:
        run.rehearse(texts)
    except Exception as error:
        warnings.warn(f"training continues without torch.compile, which failed: {error}", stacklevel=2)
        run.compile(False)
        for learner in run.learners:
            learner.optimiser.zero_grad(set_to_none=True)


def _export(run: Run, out: Path, split_mib: int | None) -> None:
    for learner in run.learners:
        export(out / learner.name, learner.config, learner.arrays(), run.minilm.vocabulary)
        if split_mib:
            split(out / learner.name, split_mib)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pretraining.distil", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--corpus", type=Path, required=True, help="folder with corpus-*.txt[.xz] and heldout.txt[.xz]")
    add("--run", type=Path, required=True, help="folder for the tokenized corpus, state.pt and log.jsonl")
    add("--settings", type=Path, default=DEFAULT, help="YAML file (default: %(default)s)")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--tokens", type=int, help="budget in tokens without padding, instead of that of the settings")
    budget.add_argument("--seconds", type=float, help="budget in seconds of training, instead of that of the settings")
    add("--minilm", type=Path, help="folder of the first teacher (default: its Python package)")
    add("--mpnet", type=Path, help="folder of the second teacher (default: its Python packages)")
    add(
        "--continue-from",
        action="append",
        default=[],
        metavar="NAME=ENCODER",
        help="first weights of a student: a folder, or another source that a recipe's `encoder` accepts",
    )
    add("--prepare-only", action="store_true", help="only tokenize the corpus and unpack the teachers")
    add("--export", type=Path, help="folder for the encoders, one folder per student (default: RUN/encoders)")
    add("--split-mib", type=positive, help="split the weights of an encoder into parts of at most this many MiB")
    add("--save-minutes", type=float, default=5.0, help="minutes between two saved states (default: %(default)s)")
    add("--precision", choices=["auto", "bfloat16", "float32"], default="auto", help="auto: bfloat16 on a GPU")
    add("--threads", type=positive, help="CPU threads (default: PyTorch's choice)")
    add("--no-compile", dest="compile", action="store_false", help="do not use torch.compile")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
