"""A trained question answering model: just trained, it is exported, verified and measured; from a finished run, it is
exported again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import cast

from textclf.classify.question_answering.evaluation import golds_of
from textclf.classify.question_answering.question_answerer import Answer, QuestionAnswerer, answer_of
from textclf.classify.question_answering.selection import select_answers
from textclf.data.question_answering.questions import QuestionSplit
from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.encoders.prepare_questions import PreparedQuestions
from textclf.errors import RunError
from textclf.exporting.question_answering.model_file import (
    Answers,
    AnswerVerification,
    compare_answers,
    export_question_answerer,
)
from textclf.exporting.question_answering.onnx import onnx_answerer
from textclf.exporting.question_answering.trained_run import TrainedAnswerer
from textclf.exporting.question_answering.verify import compare_with_run, file_answers, joined_answers
from textclf.exporting.report import VerificationReport
from textclf.files.writing import write_text
from textclf.recipe.settings import Recipe
from textclf.recipe.writing import dump_recipe
from textclf.runs.pages.writing import write_pages
from textclf.runs.record.facts import facts_of_run, seeds_of
from textclf.runs.record.latency import latency_of
from textclf.runs.record.metrics_file import WITHHELD, RefusedForm
from textclf.runs.tasks.forms import first_passing_form, warnings_about
from textclf.runs.tasks.interface import Results
from textclf.runs.tasks.question_answering.engines import Training
from textclf.runs.tasks.question_answering.measuring import (
    ChosenCalibration,
    Measured,
    calibrate,
    measure,
    result_warnings,
    say_results,
)
from textclf.runs.tasks.question_answering.pages import pages_of
from textclf.runs.tasks.question_answering.record import AnsweringExport, AnsweringMetrics
from textclf.terminal.progress import Progress
from textclf.tflite.graph.mobilebert import Quantization
from textclf.training.question_answering.calibration import AnswerTemperature
from textclf.training.saved.run_folder import METRICS, RunFolder
from textclf.training.watching.watchers import require_finite


@dataclass(frozen=True)
class _File:
    """A file that passed its checks: its form, its size in bytes, how it compares with the trained model, and its answers
    by split, on a server and on a phone."""

    quantization: Quantization
    size: int
    verification: AnswerVerification
    server: dict[str, list[Answer]]
    phone: dict[str, list[Answer]] | None


@dataclass(frozen=True)
class JustTrained:
    """The `TrainedModel` of question answering."""

    recipe: Recipe
    data: PreparedQuestions
    checkpoint: EncoderCheckpoint
    training: Training

    def conclude(self, folder: RunFolder, progress: Progress) -> Results:
        recipe, training, splits = self.recipe, self.training, self._splits
        logits = {split.name: training.logits(split.name) for split in splits}
        for name, values in logits.items():
            require_finite(values, name)
        validation = training.measure_validation(logits["validation"])
        chosen = calibrate(recipe, self.data.split("validation"), validation, progress)
        # Before the export: whatever fails from here on, the trained weights can be exported later.
        self._keep(chosen, folder)
        trained = {
            split.name: Answers(
                logits[split.name],
                select_answers(self.data.windows[split.name], logits[split.name], split.contexts),
            )
            for split in splits
        }
        path = folder.path / "model.tflite"
        file, refused = first_passing_form(
            training.forms,
            path,
            progress,
            export=partial(training.export, chosen.null_bound, chosen.temperature.value),
            check=lambda form: self._checked(path, form, trained, chosen, progress),
        )
        measured = self._measured(file, trained, chosen)
        model = "model.tflite" if file is not None else "trained model (not exported)"
        say_results(measured.splits, model, progress)
        reported = splits[-1]
        doubts = result_warnings(measured.splits, reported.name)
        for doubt in doubts:
            progress.warn(doubt)
        record = self._record(file, refused, measured, doubts, progress)
        return Results(record, pages_of(reported, measured.answers[reported.name]))

    def leave(self) -> None:
        self.training.leave()

    @property
    def _splits(self) -> list[QuestionSplit]:
        return cast("list[QuestionSplit]", self.data.dataset.held_out)

    def _keep(self, chosen: ChosenCalibration, folder: RunFolder) -> None:
        """Writes everything that a later export reads."""
        write_text(folder.path / "vocab.txt", "".join(f"{token}\n" for token in self.checkpoint.vocabulary))
        write_text(folder.path / "recipe.yaml", dump_recipe(self.recipe, relative_to=folder.place))
        self.training.keep(folder, chosen.null_bound, chosen.temperature.value)

    def _checked(
        self,
        path: Path,
        form: Quantization,
        trained: Mapping[str, Answers],
        chosen: ChosenCalibration,
        progress: Progress,
    ) -> _File:
        """Compares the file with the trained model. Raises VerificationError if they differ too much."""
        with QuestionAnswerer(path) as answerer:
            exported = {split.name: file_answers(answerer, split) for split in self._splits}
            verification = compare_answers(
                joined_answers(list(trained.values())),
                joined_answers(list(exported.values())),
                [gold for split in self._splits for gold in golds_of(split)],
                form,
                null_bound=chosen.null_bound,
                temperature=chosen.temperature.value,
                max_changed_answers=self.recipe.export.max_changed_labels,
                max_lost_f1=self.recipe.export.max_lost_accuracy,
            )
            server = {name: [answerer.as_answer(one) for one in found.selected] for name, found in exported.items()}
            phone = phone_answers(answerer, self._splits)
        size = path.stat().st_size
        progress.say(
            f"model.tflite: {form}, {size / 1e6:.1f} MB. Export check: {verification.changed_answers} of "
            f"{verification.questions:,} answers changed (largest logit change {verification.largest_difference:.4f})"
        )
        if verification.doubt is not None:
            progress.warn(verification.doubt)
        return _File(form, size, verification, server, phone)

    def _measured(self, file: _File | None, trained: Mapping[str, Answers], chosen: ChosenCalibration) -> Measured:
        if file is not None:
            return measure(self._splits, file.server, file.phone, chosen)
        server = {
            name: [answer_of(one, chosen.temperature.value, chosen.null_bound) for one in found.selected]
            for name, found in trained.items()
        }
        return measure(self._splits, server, None, chosen)

    def _record(
        self,
        file: _File | None,
        refused: Sequence[RefusedForm],
        measured: Measured,
        doubts: Sequence[str],
        progress: Progress,
    ) -> AnsweringMetrics:
        training, winner = self.training, self.training.winner
        written = None if file is None else file.quantization
        doubt = None if file is None else file.verification.doubt
        export = AnsweringExport.model_validate(
            {
                "requested": self.recipe.export.quantization,
                "refused": list(refused),
                "withheld": refused[0].reason if file is None else None,
                "quantization": written,
                "bytes": None if file is None else file.size,
                **({} if file is None else asdict(file.verification)),
            }
        )
        seeds = seeds_of(training.results)
        for split in training.results[0].scores if seeds is not None else ():
            assert seeds is not None
            match, f1 = seeds[split]["exact_match"], seeds[split]["f1"]
            progress.say(
                f"{len(training.results)} seeds, {split} split: exact match {match.mean:.1%} ± {match.deviation:.1%}, "
                f"F1 {f1.mean:.1%} ± {f1.deviation:.1%}"
            )
        return AnsweringMetrics.model_validate(
            {
                "task": "question-answering",
                **facts_of_run(
                    self.recipe,
                    self.data.dataset,
                    self.checkpoint,
                    engine=training.facts,
                    winner=winner,
                    precision=training.precision,
                    warnings=[*winner.warnings, *warnings_about(written, doubt, refused), *doubts],
                ),
                "seeds": seeds,
                "calibration": measured.calibration,
                "export": export,
                **measured.splits,
            }
        )


def phone_answers(answerer: QuestionAnswerer, splits: Sequence[QuestionSplit]) -> dict[str, list[Answer]] | None:
    """Returns the answers of a phone by split; None for a model that phones cannot use."""
    if not answerer.fits_phones:
        return None
    return {split.name: answerer.answers(split.texts, phone=True) for split in splits}


@dataclass(frozen=True)
class FinishedAnswerer:
    """The `FinishedRun` of question answering."""

    trained: TrainedAnswerer

    @property
    def recipe(self) -> Recipe:
        return self.trained.recipe

    def content(self) -> bytes:
        run, rows = self.trained, None
        if run.recipe.export.quantization == "int4":
            train = cast("QuestionSplit", run.dataset().train)
            rows = run.windows(train).encoded
        return export_question_answerer(
            run.recipe, run.checkpoint, run.head, null_bound=run.null_bound, temperature=run.temperature, rows=rows
        )

    def compare(self, model: Path, report: VerificationReport) -> None:
        with QuestionAnswerer(model) as answerer:
            compare_with_run(report, answerer, self.trained, None)

    def onnx(self, report: VerificationReport) -> bytes:
        content = onnx_answerer(self.trained)
        with QuestionAnswerer.of_content(content, report.model, Path(report.model)) as answerer:
            compare_with_run(report, answerer, self.trained, None)
        return content

    def record(self, model: Path, report: VerificationReport) -> None:
        run, verification = self.trained, report.parity
        if not isinstance(verification, AnswerVerification):
            return
        metrics = AnsweringMetrics.read(run.folder)
        if metrics.calibration is None:
            raise RunError(f"{run.folder / METRICS}: `calibration` is missing; train again")
        splits = run.held_out()
        with QuestionAnswerer(model) as answerer:
            server = {split.name: answerer.answers(split.texts) for split in splits}
            phone = phone_answers(answerer, splits)
        chosen = ChosenCalibration(run.null_bound, AnswerTemperature(run.temperature, metrics.calibration.reason))
        measured = measure(splits, server, phone, chosen)
        export = {
            "withheld": None,
            "quantization": run.recipe.export.quantization,
            "bytes": model.stat().st_size,
            "latency": latency_of(model),
            **asdict(verification),
        }
        doubts = [verification.doubt] if verification.doubt is not None else []
        metrics = metrics.with_changes(
            **measured.splits,
            calibration=measured.calibration,
            export=metrics.export.model_copy(update=export),
            findings=[text for text in metrics.findings if not text.startswith(WITHHELD)],
            warnings=[*(text for text in metrics.warnings if not text.startswith(WITHHELD)), *doubts],
        )
        reported = splits[-1]
        write_pages(run.folder, metrics, pages_of(reported, measured.answers[reported.name]))
