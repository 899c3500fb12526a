"""How fast `textclf answer` is beside a loop over the Task Library's BertQuestionAnswerer: one encoder, real questions.

In: SQuAD files. Out: a table of questions a second, and how many answers of the loop are those of textclf's phone mode. The
head has random weights: they do not change the speed. The Task Library lives in another Python: name it with
--task-library-python.

With --positions MODEL it measures instead how good a trained model's answers are by their position: the same answers are
moved towards the end of a window by sentences of other contexts before them.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", type=Path, help="SQuAD files")
    parser.add_argument("--encoder", default="builtin")
    parser.add_argument("--questions", type=int, default=300, help="the most questions of each file")
    parser.add_argument("--rounds", type=int, default=2, help="how often the programs take turns")
    parser.add_argument("--task-library-python", type=Path)
    parser.add_argument(
        "--positions", type=Path, metavar="MODEL", help="measure this trained model by position instead"
    )
    arguments = parser.parse_args()
    if arguments.positions is not None:
        print("| data | first token of the answer | questions | exact match | F1 |")
        print("| --- | ---: | ---: | ---: | ---: |")
        for path in arguments.data:
            print("\n".join(measured_by_position(arguments.positions, path, arguments.questions)), flush=True)
        return
    if arguments.task_library_python is None:
        parser.error("--task-library-python is missing; it names a Python with tflite-support")
    os.environ["TEXTCLF_TASK_LIBRARY_PYTHON"] = str(arguments.task_library_python)
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder), arguments.encoder)
        print(f"| questions | windows | tokens of a window | {' | '.join(PROGRAMS)} | answers alike |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        for path in arguments.data:
            print(measured(model, path, arguments.questions, arguments.rounds), flush=True)


PROGRAMS = ("`textclf answer`", "textclf as a phone", "loop over BertQuestionAnswerer")


def write_model(folder: Path, encoder: str) -> Path:
    """A model with 8-bit weights of the encoder and a random head."""
    from textclf.encoders.sources.locate import load_checkpoint
    from textclf.exporting.question_answering.model_file import export_question_answerer
    from textclf.recipe.reading import load_recipe

    (folder / "data.json").write_text("{}")
    (folder / "recipe.yaml").write_text(
        f"name: speed\ntask: question-answering\ndataset: {{train: data.json}}\nencoder: {encoder}\n"
    )
    recipe = load_recipe(folder / "recipe.yaml")
    checkpoint = load_checkpoint(encoder, folder)
    width = checkpoint.width
    head = {
        "head/kernel": np.random.default_rng(0).standard_normal((width, 2)).astype(np.float32),
        "head/bias": np.zeros(2, np.float32),
        "features/mean": np.zeros((2, width), np.float32),
        "features/scale": np.ones((2, width), np.float32),
    }
    model = folder / "model.tflite"
    model.write_bytes(export_question_answerer(recipe, checkpoint, head))
    return model


def measured(model: Path, path: Path, most: int, rounds: int) -> str:
    """A line of the table: the best of some rounds, in which the programs take turns."""
    from textclf import QuestionAnswerer, answer_file
    from textclf.classify.question_answering.evaluation import read_questions
    from textclf.exporting.apps import run_question_answerer
    from textclf.exporting.question_answering.verify import compared_answers

    with QuestionAnswerer(model) as answerer:
        questions = [(question, context) for question, context in read_questions(answerer, path).texts[:most]]
        windows = answerer.submit(questions)._windows.encoded.lengths
        table, output = model.with_name("in.csv"), model.with_name("out.csv")
        write_table(table, questions)
        programs: list[Callable[[], object]] = [
            lambda: answer_file(model, table, output, force=True),
            lambda: answerer.answers(questions, phone=True),
            lambda: run_question_answerer(model, questions),
        ]
        seconds = [[seconds_of(program) for program in programs] for _ in range(rounds)]
        rates = [len(questions) / min(times) for times in zip(*seconds, strict=True)]
        alike = compared_answers(answerer.answers(questions, phone=True), run_question_answerer(model, questions), 0.5)
    shown = " | ".join(f"{rate:.1f}/s ({rate / rates[-1]:.1f})" for rate in rates)
    same = f"{alike.questions - alike.changed_answers} of {alike.questions}"
    return f"| {path.stem}: {len(questions)} | {len(windows)} | {windows.mean():.0f} | {shown} | {same} |"


# --- By position -----------------------------------------------------------------------------------------------------
POSITIONS = (0, 64, 126, 192, 256, 320)
"""An answer is measured once at or just behind each of these tokens; the first is where it is without sentences before it.
In their first training the built-in encoders saw 126 tokens at most, in the second one 510."""


def measured_by_position(model: Path, path: Path, most: int) -> list[str]:
    """Lines of the table. Every question is measured at every position, so that only the position differs."""
    from textclf import QuestionAnswerer
    from textclf.classify.question_answering.evaluation import golds_of, question_scores, read_questions

    with QuestionAnswerer(model) as answerer:
        split = read_questions(answerer, path)
        spans = [answers[0] if answers else None for answers in split.answers]
        sentences = [one for context in dict.fromkeys(split.contexts) for one in sentences_of(context)]
        golds, moved, places = [], {position: [] for position in POSITIONS}, {position: [] for position in POSITIONS}
        for row, (question, context) in enumerate(split.texts):
            found = moved_contexts(answerer, question, context, spans[row], sentences, seed=row)
            if found is not None and len(golds) < most:
                golds.append(golds_of(split)[row])
                for position, (text, place) in zip(POSITIONS, found, strict=True):
                    moved[position].append((question, text))
                    places[position].append(place)
        lines = []
        for position, asked in moved.items():
            scores = question_scores([answer.text for answer in answerer.answers(asked)], golds)
            match, f1 = scores.mean(axis=0)
            at = f"{np.mean(places[position]):.0f} ({min(places[position])}–{max(places[position])})"
            lines.append(f"| {path.stem} | {at} | {len(asked)} | {match:.1%} | {f1:.1%} |")
    return lines


def sentences_of(text: str) -> list[str]:
    return [one.strip() + "." for one in text.split(". ") if one.strip()]


def moved_contexts(
    answerer: object, question: str, context: str, answer: object, sentences: Sequence[str], seed: int
) -> list[tuple[str, int]] | None:
    """The context with its answer at each of the positions, truncated to one window, and the answer's real position there.

    None if the question has no answer, or if its answer is already behind the second position, or does not fit the last.
    """
    if answer is None:
        return None
    tokenizer = answerer.tokenizer
    before, rest = context[: answer.start], context[answer.start :]
    head = len(tokenizer.pieces([question])[0][: answerer.question_length]) + 2  # [CLS] question [SEP]
    own, needed = (len(pieces) for pieces in tokenizer.pieces([before, answer.text]))
    if head + own >= POSITIONS[1] or POSITIONS[-1] + 40 + needed >= answerer.max_length:
        return None
    order = np.random.default_rng(seed).permutation(len(sentences))
    others = [sentences[number] for number in order if sentences[number].rstrip(".") not in context]
    lengths = [len(pieces) for pieces in tokenizer.pieces(others[:200])]
    found = []
    for position in POSITIONS:
        added, chosen = 0, []
        for sentence, length in zip(others, lengths, strict=False):
            # Short sentences keep the place near the position.
            if head + own + added >= position:
                break
            if length <= 40:
                chosen.append(sentence)
                added += length
        room = answerer.max_length - head - own - added - 1
        text = " ".join([*chosen, before]) if chosen else before
        found.append((text + truncated(tokenizer, rest, room), head + own + added))
        if found[-1][1] + needed >= answerer.max_length:
            return None
    return found


def truncated(tokenizer: object, text: str, room: int) -> str:
    """The beginning of a text that has at most this many tokens, in whole words."""
    ends = [index for index, character in enumerate(text) if character == " "] + [len(text)]
    low, high = 0, len(ends)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high) if len(tokenizer.pieces([text[: ends[middle - 1]]])[0]) <= room else (low, middle - 1)
        )
    return text[: ends[low - 1]] if low else ""


def write_table(path: Path, questions: Sequence[tuple[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("question", "context"), *questions])


def seconds_of(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
