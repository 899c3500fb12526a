"""Measures the question answering models of finished runs on the same questions: which is better, and is the difference
significant?

The models run on LiteRT, so no TensorFlow is needed. A comparison is fair only on questions about contexts that no run, or
every run, was trained on. Therefore the data files of each run are read again; their hashes must be those in its metrics.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from textclf.classify.metrics import mcnemar_p_value
from textclf.classify.question_answering.evaluation import (
    AnswerMetrics,
    Difference,
    difference_of,
    golds_of,
    measure_answers,
    question_scores,
)
from textclf.classify.question_answering.question_answerer import QuestionAnswerer
from textclf.data.examples import Dataset
from textclf.data.findings.finding import counted
from textclf.data.question_answering.dataset import load_question_file, load_questions
from textclf.data.question_answering.findings import alike
from textclf.data.question_answering.questions import QuestionSplit, place_of
from textclf.encoders.prepare import load_recipe_data
from textclf.errors import DataError, RunError, TextclfError
from textclf.files.copies import local_copies
from textclf.files.writing import write_text
from textclf.recipe.reading import load_recipe
from textclf.recipe.settings import Recipe
from textclf.runs.comparison.fairness import overlap_of
from textclf.runs.comparison.result import markdown_table, one_line, shortened
from textclf.runs.comparison.runs import require_unchanged, unique_names
from textclf.runs.pages.formats import markdown_text, signed_points
from textclf.runs.tasks.question_answering.record import AnsweringMetrics
from textclf.terminal.tables import text_table

_SIGNIFICANT = 0.05

_SHOWN_QUESTIONS, _SHOWN_CHARACTERS = 5, 50


@dataclass(frozen=True)
class ComparedAnswerer:
    """One run: its metrics on the compared questions, the bytes of its model, its encoder, its training questions and the
    engine that trained it."""

    name: str
    metrics: AnswerMetrics
    bytes: int
    encoder: str
    training_questions: int
    engine: str


@dataclass(frozen=True)
class AnswerPair:
    """The run `second` against the run `first`, as they answer on a server.

    `difference` is the second's quality minus the first's. For `gained` questions only the second run's answer is an exact
    match, for `lost` ones only the first's; `p_value` is that of McNemar's exact test. The runs answer
    `disagreeing_questions` differently.
    """

    first: str
    second: str
    difference: Difference
    gained: int
    lost: int
    p_value: float
    disagreeing_questions: int

    @property
    def is_significant(self) -> bool:
        """Whether the interval of the difference of F1 excludes 0."""
        low, high = self.difference.f1_interval
        return low > 0 or high < 0

    def verdict(self) -> str:
        """Returns a sentence for people."""
        found = self.difference
        low, high = map(signed_points, found.f1_interval)
        judged = "significant" if self.is_significant else "not significant; it may be chance"
        return (
            f"{self.second} against {self.first}: F1 {signed_points(found.f1)} (95 % confidence interval: {low} to {high}), "
            f"{judged}; exact match {signed_points(found.exact_match)} ({self.gained:,} gained, {self.lost:,} lost, McNemar's "
            f"p = {self.p_value:.3f}); {self.disagreeing_questions:,} answers differ"
        )


@dataclass(frozen=True)
class AnswerDisagreement:
    """A question that not all runs answer alike: its place in the data, the correct answers, and the answer of each run."""

    place: str
    question: str
    golds: tuple[str, ...]
    given: tuple[str, ...]


@dataclass(frozen=True)
class AnswerComparison:
    """Runs measured on the same questions. `questions` is their number, `measured_on` describes them."""

    measured_on: str
    questions: int
    warnings: list[str]
    models: list[ComparedAnswerer]
    pairs: list[AnswerPair]
    disagreements: list[AnswerDisagreement]

    def as_dict(self) -> dict[str, Any]:
        """All numbers. Of the questions on which the runs disagree, only the number."""
        return {
            "kind": "runs",
            "task": "question-answering",
            "measured_on": self.measured_on,
            "questions": self.questions,
            "warnings": self.warnings,
            "runs": [asdict(model) for model in self.models],
            "pairs": [asdict(pair) for pair in self.pairs],
            "disagreeing_questions": len(self.disagreements),
        }

    def table(self) -> list[list[str]]:
        """The first line is the header. Each line has the name of a measurement and one column per run."""
        models = self.models
        servers = [model.metrics.server for model in models]
        phones = [model.metrics.phone for model in models]
        return [
            ["", *(model.name for model in models)],
            ["F1 on a server", *(_percent(one.f1) for one in servers)],
            ["95 % confidence interval", *(_interval(one.f1_interval) for one in servers)],
            ["exact match on a server", *(_percent(one.exact_match) for one in servers)],
            ["F1 on a phone", *("–" if one is None else _percent(one.f1) for one in phones)],
            ["exact match on a phone", *("–" if one is None else _percent(one.exact_match) for one in phones)],
            ["model.tflite", *(f"{model.bytes / 1e6:.2f} MB" for model in models)],
            ["encoder", *(model.encoder for model in models)],
            ["training questions", *(f"{model.training_questions:,}" for model in models)],
            ["engine", *(model.engine for model in models)],
        ]

    def as_text(self) -> str:
        header, *lines = self.table()
        parts = [f"Measured on {self.measured_on}.", text_table(header, lines)]
        parts += [pair.verdict() for pair in self.pairs]
        if self.disagreements:
            parts.append(self._disagreements_text())
        return "\n\n".join(parts)

    def _disagreements_text(self) -> str:
        shown = self.disagreements[:_SHOWN_QUESTIONS]
        names = [model.name for model in self.models]
        table = text_table(
            ["place", "question", "correct", *names],
            [
                [one.place, *(shortened(text, _SHOWN_CHARACTERS) for text in (one.question, _gold(one), *one.given))]
                for one in shown
            ],
            left_columns=3 + len(names),
        )
        count = len(self.disagreements)
        more = f"; the first {len(shown)} are" if count > len(shown) else ""
        return f"Questions with different answers: {count:,} of {self.questions:,}{more}\n{table}"

    def as_markdown(self) -> str:
        header, *lines = self.table()
        names = [model.name for model in self.models]
        parts = [
            f"# {' and '.join(map(markdown_text, names))}",
            f"Measured on {markdown_text(self.measured_on)}.",
            *(f"**Warning:** {markdown_text(warning)}" for warning in self.warnings),
            markdown_table(["measured", *header[1:]], lines),
            *(markdown_text(pair.verdict()) for pair in self.pairs),
        ]
        if len(self.models) > 1:
            parts.append(
                f"The runs disagree on {len(self.disagreements):,} of {counted(self.questions, 'question')}; see "
                "disagreements.csv."
            )
        return "\n\n".join(parts) + "\n"

    def write(self, folder: Path, json: str) -> None:
        """Writes comparison.md, comparison.json with the text `json`, and disagreements.csv."""
        with (folder / "disagreements.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["place", "question", "correct answers", *(model.name for model in self.models)])
            writer.writerows([one.place, one.question, " | ".join(one.golds), *one.given] for one in self.disagreements)
        write_text(folder / "comparison.json", json)
        write_text(folder / "comparison.md", self.as_markdown())


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _interval(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.1f}–{100 * interval[1]:.1f} %"


def _gold(one: AnswerDisagreement) -> str:
    return " | ".join(one.golds) or "(no answer)"


# --- The runs --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _FinishedRun:
    """A run's model, its recipe and its metrics."""

    name: str
    recipe: Recipe
    metrics: AnsweringMetrics
    answerer: QuestionAnswerer

    def dataset(self) -> Dataset:
        """The questions that it was trained and measured on, in the same splits.

        Raises DataError if a data file is missing or has changed.
        """
        require_unchanged(self.name, self.recipe, self.metrics)
        _, dataset = load_recipe_data(self.recipe, self.answerer.tokenizer, read=load_questions)
        return dataset


@local_copies()
def compare_runs(folders: Sequence[Path], data: Path | None = None) -> AnswerComparison:
    """Measures the models of finished runs on the same questions.

    They are those of the first run's test split (or of its validation split, if it has no test split), or those of the
    file `data`, read with the columns of the first run's recipe. Questions about contexts that only some of the runs were
    trained on are left out. Raises RunError if no question is left, DataError for data that cannot be read or has
    changed, and ModelError for a run without a model.
    """
    with ExitStack() as stack:
        runs = _open_runs(folders, stack)
        datasets, warnings = _datasets(runs, needed=data is None)
        if data is None:
            first = datasets[0]
            assert first is not None
            measured = cast("QuestionSplit", first.test or first.validation)
            warnings += _warnings_about_splits(runs, measured)
        else:
            measured, findings = load_question_file(runs[0].recipe.dataset, data)
            warnings += [finding.message for finding in findings if finding.severity == "warning"]
        kept, found = _fair_questions(runs, datasets, measured)
        used = f"{len(kept):,}" if kept.all() else f"{int(kept.sum()):,} of {len(kept):,}"
        where = f", the {measured.name} split of {runs[0].name}" if data is None else ""
        measured_on = f"{used} questions of {measured.file.name}{where}"
        return _compare(runs, _selected(measured, kept), measured_on, [*warnings, *found])


@local_copies()
def check_comparison(items: Sequence[Recipe | Path], data: Path | None) -> None:
    """Raises the errors of `compare_runs` that can be found before the recipes among the items are trained."""
    with ExitStack() as stack:
        runs = _open_runs([item for item in items if not isinstance(item, Recipe)], stack)
        for item in items:
            if isinstance(item, Recipe):
                load_recipe_data(item, read=load_questions)
        first = items[0]
        if data is not None:
            load_question_file(first.dataset if isinstance(first, Recipe) else runs[0].recipe.dataset, data)
        elif not isinstance(first, Recipe):
            _datasets(runs[:1], needed=True)


def _open_runs(folders: Sequence[Path], stack: ExitStack) -> list[_FinishedRun]:
    """The runs with their models. The stack closes the models."""
    return [
        _FinishedRun(
            name,
            load_recipe(folder / "recipe.yaml"),
            AnsweringMetrics.read(folder),
            stack.enter_context(QuestionAnswerer(folder)),
        )
        for folder, name in zip(folders, unique_names(folders), strict=True)
    ]


def _datasets(runs: Sequence[_FinishedRun], *, needed: bool) -> tuple[list[Dataset | None], list[str]]:
    """The data of each run, and warnings about data that cannot be read and is None. It is an error if the questions of
    the first run are `needed`."""
    datasets: list[Dataset | None] = []
    warnings = []
    for run in runs:
        try:
            datasets.append(run.dataset())
        except TextclfError as error:
            if needed and run is runs[0]:
                raise DataError(
                    f"{error}; restore the file, or measure on other questions with data= (--data FILE)"
                ) from error
            datasets.append(None)
            warnings.append(
                f"{error}. Some of the measured questions may be about its training contexts, which would make the comparison "
                "unfair; restore the file, or measure on contexts that no run was trained on"
            )
    return datasets, warnings


# --- The questions ---------------------------------------------------------------------------------------------------
def _warnings_about_splits(runs: Sequence[_FinishedRun], measured: QuestionSplit) -> list[str]:
    if measured.name != "validation":
        return []
    return [
        f"{runs[0].name} has no test split. Its validation questions also chose its best epoch, so its results on them are "
        "slightly optimistic; set dataset.test, or measure on other questions with data= (--data FILE)"
    ]


def _fair_questions(
    runs: Sequence[_FinishedRun], datasets: Sequence[Dataset | None], measured: QuestionSplit
) -> tuple[np.ndarray, list[str]]:
    """Which of the measured questions are used, bool [questions], and warnings about the others."""
    keys = [alike(context) for context in measured.contexts]
    trained_on = {}
    for run, dataset in zip(runs, datasets, strict=True):
        if dataset is not None:
            training = {alike(context) for context in cast("QuestionSplit", dataset.train).contexts}
            trained_on[run.name] = np.array([key in training for key in keys], bool)
    unfair, by_all, whose = overlap_of(trained_on, len(keys))
    warnings = []
    if unfair.any():
        what = f"{int(unfair.sum()):,} of {len(keys):,} questions are about training contexts of {whose}, but not of every run"
        if unfair.all():
            raise RunError(
                f"{what}, so no question is left for a fair comparison; train all runs on the same split, or measure on "
                "contexts that no run was trained on with data= (--data FILE)"
            )
        warnings.append(f"{what}. They are left out, because they would make the comparison unfair")
    if by_all.any():
        warnings.append(
            f"{int(by_all.sum()):,} of {len(keys):,} questions are about training contexts of every run, so the results are "
            "too high; measure on contexts that no run was trained on"
        )
    return ~unfair, warnings


def _selected(split: QuestionSplit, kept: np.ndarray) -> QuestionSplit:
    numbers = np.flatnonzero(kept).tolist()
    return QuestionSplit(
        split.name,
        [split.texts[i] for i in numbers],
        split.labels[kept],
        [split.rows[i] for i in numbers],
        split.file,
        [split.ids[i] for i in numbers],
        [split.answers[i] for i in numbers],
        split.files,
    )


# --- The comparison --------------------------------------------------------------------------------------------------
def _compare(
    runs: Sequence[_FinishedRun], split: QuestionSplit, measured_on: str, warnings: list[str]
) -> AnswerComparison:
    golds = golds_of(split)
    models, given = [], []
    for run in runs:
        measured = measure_answers(run.answerer, split)
        given.append([answer.text for answer in measured.server])
        models.append(
            ComparedAnswerer(
                name=run.name,
                metrics=measured.metrics,
                bytes=run.answerer.path.stat().st_size,
                encoder=run.metrics.encoder.source,
                training_questions=run.metrics.rows["train"],
                engine=run.metrics.engine.name,
            )
        )
    pairs = [
        _pair(models[0].name, model.name, given[0], theirs, golds)
        for model, theirs in zip(models[1:], given[1:], strict=True)
    ]
    disagreements = [
        AnswerDisagreement(
            place=place_of(split, row),
            question=one_line((split.texts[row][0],)),
            golds=tuple(dict.fromkeys(golds[row])),
            given=answers,
        )
        for row, answers in enumerate(zip(*given, strict=True))
        if len(set(answers)) > 1
    ]
    return AnswerComparison(measured_on, len(split.rows), warnings, models, pairs, disagreements)


def _pair(
    first: str, second: str, ours: Sequence[str], theirs: Sequence[str], golds: Sequence[Sequence[str]]
) -> AnswerPair:
    is_right, is_second_right = (question_scores(answers, golds)[:, 0] > 0 for answers in (ours, theirs))
    gained, lost = int((is_second_right & ~is_right).sum()), int((is_right & ~is_second_right).sum())
    return AnswerPair(
        first=first,
        second=second,
        difference=difference_of(ours, theirs, golds),
        gained=gained,
        lost=lost,
        p_value=mcnemar_p_value(gained, lost),
        disagreeing_questions=sum(one != other for one, other in zip(ours, theirs, strict=True)),
    )
