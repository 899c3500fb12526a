"""Takes questions about contexts and returns the settings of a recipe, each with the reason for its value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from textclf.data.findings.finding import counted, percent
from textclf.data.findings.script_fit import fit_findings
from textclf.data.question_answering.questions import QuestionSplit
from textclf.data.tokens.encoded import TextTokenizer
from textclf.data.tokens.spans import MAX_LENGTH, Windows, make_windows
from textclf.runs.proposal.question_columns import QuestionColumns
from textclf.runs.proposal.settings import ENCODER, REMEDY_FOR_LANGUAGE, Setting

# The fractions to set aside by the number of contexts up to which they hold: all questions about a context stay together.
_FRACTIONS = ((500, 0.2), (20_000, 0.1), (float("inf"), 0.05))

# Up to this many windows, five epochs are too few steps for the default learning rate.
_FEW_WINDOWS = 3_000

_EPOCHS = ((20_000, 5), (100_000, 3), (float("inf"), 2))

_STRIDE, _FEWER_WINDOWS = 128, 256

# With so many windows for each question, most of the time is spent on windows without the answer.
_MANY_WINDOWS = 3.0


# Of so many questions the windows are counted; the others are estimated.
_MOST_MEASURED = 5_000


@dataclass(frozen=True)
class MeasuredQuestions:
    """The questions of a file, and the windows of 384 tokens of at most 5,000 of them, spread over the file."""

    questions: QuestionSplit
    windows: Windows
    measured: int

    @classmethod
    def of(cls, questions: QuestionSplit, tokenizer: TextTokenizer) -> MeasuredQuestions:
        step = -(-len(questions.rows) // _MOST_MEASURED)
        chosen = questions.texts[::step]
        asked, contexts = [question for question, _ in chosen], [context for _, context in chosen]
        return cls(questions, make_windows(tokenizer, asked, contexts), len(chosen))

    @property
    def window_count(self) -> int:
        """The windows of all questions, estimated if not all were measured."""
        return round(len(self.windows) * len(self.questions.rows) / self.measured)

    @property
    def several_windows(self) -> float:
        """The share of the questions that need several windows."""
        return len(set(self.windows.rows[self.windows.first_piece > 0].tolist())) / self.measured

    @property
    def contexts(self) -> int:
        return len(set(self.questions.contexts))

    @property
    def answered(self) -> int:
        return sum(map(bool, self.questions.answers))


def question_dataset_settings(
    read: MeasuredQuestions, columns: QuestionColumns | None, others: Mapping[str, tuple[Path, int]], encoding: str
) -> list[Setting]:
    """The files, the splits and the columns. `others` are the files beside the training file by split, with their
    questions; `columns` is None for a SQuAD file."""
    fraction = next(value for most, value in _FRACTIONS if read.contexts <= most)
    count = len(read.questions.rows)
    settings = [
        Setting(
            "train",
            read.questions.file,
            f"{counted(count, 'question')} about {counted(read.contexts, 'context')}; {percent(read.answered / count)} have an "
            "answer. The path is relative to this file.",
        )
    ]
    for split, use in (
        ("validation", "The best epoch is chosen on these questions"),
        ("test", "The finished model is measured on these questions"),
    ):
        if split in others:
            path, questions = others[split]
            reason = f"{use}: {counted(questions, 'question')} of a file that is beside the training file."
            settings.append(Setting(split, path, reason))
        else:
            reason = (
                f"{use}: those about this fraction of the contexts, which are not trained on. All questions about a context "
                "stay together."
            )
            settings.append(Setting(split, fraction, reason))
    if columns is not None:
        settings += _column_settings(columns)
        if encoding != "utf-8":
            reason = f"The file is not UTF-8; all its rows can be read as {encoding}."
            settings.append(Setting("encoding", encoding, reason))
    return settings


def _column_settings(columns: QuestionColumns) -> list[Setting]:
    answers = (
        f"The column with the answers: {columns.found:,} of {columns.answered:,} are a part of their context, as answers must "
        "be."
    )
    if columns.answered < columns.rows:
        answers += " Where it is empty, the context does not answer the question."
    settings = [
        Setting("question", columns.question, "The column with the questions."),
        Setting("context", columns.context, "The column with the texts in which the answers are."),
        Setting("answer", columns.answer, answers),
    ]
    if columns.start is not None:
        reason = "The column with the first character of each answer in its context, counted from 0."
        settings.append(Setting("answer_start", columns.start, reason))
    return settings


def question_encoder_settings(read: MeasuredQuestions, language: str | None) -> list[Setting]:
    source = "The encoder in the package. It knows English only."
    if language:
        source += f" {language} {REMEDY_FOR_LANGUAGE}"
    windows, questions = read.window_count, len(read.questions.rows)
    about = "" if read.measured == questions else "about "
    reason = (
        f"A window has {MAX_LENGTH} tokens; the next one begins this many tokens later. {percent(read.several_windows)} of the "
        f"questions need several windows. With a stride of {_STRIDE}, these are {about}{counted(windows, 'window')} in all, the "
        "rows of the training."
    )
    if windows >= _MANY_WINDOWS * questions:
        return [
            Setting("source", ENCODER, source),
            Setting("stride", _FEWER_WINDOWS, f"{reason} A larger stride makes fewer windows, so training is faster."),
        ]
    return [Setting("source", ENCODER, source), Setting("stride", _STRIDE, reason)]


def question_training_settings(read: MeasuredQuestions) -> list[Setting]:
    windows = read.window_count
    epochs = int(next(value for most, value in _EPOCHS if windows <= most))
    reason = (
        f"Each window is used {epochs} times. The epoch with the best validation F1 is exported. Windows are long: an epoch "
        "takes minutes to hours on a CPU, and the first lines of the training show how long a step takes."
    )
    settings = [Setting("epochs", epochs, reason)]
    if windows <= _FEW_WINDOWS:
        reason = "More than the default of 4e-5: few questions are few steps."
        settings.append(Setting("learning_rate", 1e-4, reason))
    return settings


def question_language_warning(read: MeasuredQuestions, tokenizer: TextTokenizer) -> str | None:
    """Returns a sentence about contexts in a language or script that the built-in encoder does not know."""
    contexts: Sequence[str] = list(dict.fromkeys(read.questions.contexts))
    texts = [(context,) for context in contexts]
    findings = fit_findings(read.questions.file.name, texts, list(range(len(texts))), tokenizer, ENCODER)
    if not findings:
        return None
    share = percent(min(1.0, sum(finding.count for finding in findings) / len(texts)))
    return (
        f"{share} of the contexts seem to be in another language or script, which the built-in encoder splits into many small "
        "tokens; expect worse results."
    )
