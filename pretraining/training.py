"""The loop: several students learn from the same batches and the same answers of the teachers."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from pretraining.learner import Learner
from pretraining.rows import BatchStream, Texts
from pretraining.run_folder import RunFolder
from pretraining.settings import Settings
from pretraining.teacher import Taught, Teacher


@dataclass
class Progress:
    """How far a run is. `tokens` are without padding; `seconds` are those of the loop; `epoch` and `batch` come next."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    epoch: int = 0
    batch: int = 0


class Run:
    """Teachers, students and progress; `step` is one update of every student."""

    def __init__(
        self,
        settings: Settings,
        teachers: tuple[Teacher, Teacher | None],
        learners: Sequence[Learner],
        device: torch.device,
        *,
        bfloat16: bool,
    ) -> None:
        self.settings, self.learners, self.device, self.bfloat16 = settings, learners, device, bfloat16
        self.minilm, self.mpnet = teachers
        self.progress = Progress()
        # Sums of the losses since the last line of the log, on the device: reading them would wait for it.
        self.sums: dict[str, dict[str, Tensor]] = {}
        self.summed = 0

    @property
    def share(self) -> float:
        """The used fraction of the budget."""
        budget = self.settings.budget
        if budget.tokens is not None:
            return self.progress.tokens / budget.tokens
        assert budget.seconds is not None
        return self.progress.seconds / budget.seconds

    def compile(self, wanted: bool = True) -> None:
        for part in (self.minilm, self.mpnet, *self.learners):
            if part is not None:
                part.compile(wanted)

    def rehearse(self, texts: Texts) -> None:
        """Does what a step does, except for the update: whatever fails to compile fails here."""
        for _, losses in self._losses(texts):
            torch.stack([error for _, error in losses.values()]).sum().backward()
        for learner in self.learners:
            learner.optimiser.zero_grad(set_to_none=True)

    def teach(self, texts: Texts) -> tuple[Taught, Taught | None]:
        return self.minilm(texts), self.mpnet(texts) if self.mpnet else None

    def step(self, texts: Texts, tokens: int) -> None:
        share, norms = self.share, []
        for learner, losses in self._losses(texts):
            total, norm = learner.backward(losses, share)
            norms.append(norm)
            self._add(learner.name, {"loss": total, **{name: error.detach() for name, (_, error) in losses.items()}})
        # The only time in a step that the program waits for the device.
        for learner, norm in zip(self.learners, torch.stack(norms).tolist(), strict=True):
            learner.update(norm, share)
        self.summed += 1
        self.progress.step += 1
        self.progress.tokens += tokens

    def _losses(self, texts: Texts) -> Iterator[tuple[Learner, Any]]:
        minilm, mpnet = self.teach(texts)
        for learner in self.learners:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
                losses = learner.losses(texts, minilm, mpnet)
            yield learner, losses

    def _add(self, name: str, values: Mapping[str, Tensor]) -> None:
        sums = self.sums.setdefault(name, {})
        for key, value in values.items():
            sums[key] = sums[key] + value if key in sums else value

    def averages(self) -> dict[str, dict[str, float]]:
        """Returns the mean losses of every student since the last call."""
        found = {
            name: {key: value.item() / self.summed for key, value in sums.items()} for name, sums in self.sums.items()
        }
        self.sums, self.summed = {}, 0
        return found

    @torch.no_grad()
    def held_out(self, batches: Sequence[Texts]) -> dict[str, dict[str, float]]:
        """Returns the mean of each loss of every student over the batches."""
        found: dict[str, dict[str, float]] = {learner.name: {} for learner in self.learners}
        for texts in batches:
            for learner, losses in self._losses(texts):
                sums = found[learner.name]
                for name, (_, error) in losses.items():
                    sums[name] = sums.get(name, 0.0) + error.item() / len(batches)
        return found

    def state(self) -> dict[str, Any]:
        return {
            "students": {learner.name: learner.state() for learner in self.learners},
            "progress": asdict(self.progress),
            "sums": self.sums,
            "summed": self.summed,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        for learner in self.learners:
            learner.restore(state["students"][learner.name])
        self.progress = Progress(**state["progress"])
        self.sums, self.summed = state["sums"], state["summed"]


def train(
    run: Run,
    stream: BatchStream,
    held_out: Sequence[Texts],
    folder: RunFolder,
    keep: Callable[[], None],
    save_seconds: float,
) -> bool:
    """Trains until the budget is used or a SIGINT or SIGTERM arrives; returns whether it is used.

    `keep` saves the state and writes the encoders. It is called every `save_seconds`, but not at the end.
    """
    if run.share >= 1:
        return True
    progress, log = run.progress, run.settings.log
    with _asked_to_stop() as asked:
        began = time.monotonic() - progress.seconds
        saved, spoken, counted = time.monotonic(), progress.seconds, progress.tokens
        for batch, texts in stream:
            rates = {learner.name: learner.learning_rate(run.share) for learner in run.learners}
            run.step(texts, batch.tokens)
            progress.epoch, progress.batch = stream.epoch, stream.batch
            progress.seconds = time.monotonic() - began
            finished = run.share >= 1
            if progress.step % log.steps == 0 or finished:
                speed = (progress.tokens - counted) / max(1e-9, progress.seconds - spoken)
                spoken, counted = progress.seconds, progress.tokens
                _write(run, folder, "train", run.averages(), rates, tokens_per_second=round(speed))
            if progress.step % log.held_out_steps == 0 or finished:
                _write(run, folder, "held_out", run.held_out(held_out), rates)
            if finished or asked.is_set():
                return finished
            if time.monotonic() - saved > save_seconds:
                keep()
                saved = time.monotonic()
    raise AssertionError("the stream of batches has no end")


def _write(
    run: Run,
    folder: RunFolder,
    kind: str,
    losses: Mapping[str, Mapping[str, float]],
    rates: Mapping[str, float],
    **facts: float,
) -> None:
    """One line per student."""
    progress = run.progress
    for learner in run.learners:
        line: dict[str, Any] = {"kind": kind, "student": learner.name, "step": progress.step, "tokens": progress.tokens}
        line |= {"epoch": progress.epoch, "seconds": round(progress.seconds, 1), **facts}
        line |= {"rate": float(f"{rates[learner.name]:.4g}"), "skipped": learner.skipped}
        folder.log(line | {name: round(value, 5) for name, value in losses[learner.name].items()})


@contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    """The first SIGINT or SIGTERM ends the loop after the current step; a second one has its usual effect."""
    asked = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def ask(*_: object) -> None:
        asked.set()
        restore()

    def restore() -> None:
        for number, handler in earlier.items():
            signal.signal(number, handler)

    earlier = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield asked
    finally:
        restore()
