"""`metrics.json`, whatever the task of the model: the record of a run, read and written here and nowhere else.

What only one task measures is in a subclass of `RunMetrics`, in a module of its own; see `classification.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from textclf.classify.metrics import metrics_json
from textclf.errors import RunError
from textclf.files.writing import write_text
from textclf.training.saved.run_folder import METRICS, METRICS_FORMAT, METRICS_VERSION, read_metrics

if TYPE_CHECKING:
    from typing_extensions import Self

WITHHELD = "model.tflite was not written"
"""The beginning of the warning in the record of a run without a model."""

_ORDER = (
    "format", "version", "task", "name", "versions", "engine", "seed", "files", "encoder", "rows", "labels", "findings",
    "warnings", "stopped", "precision", "history", "best_epoch", "seeds", "calibration", "rejection", "thresholds", "export",
    "validation", "test", "recipe", "seconds",
)  # fmt: skip
"""The order of the keys in the file. Keys that are not listed are written before `recipe`."""


class Record(BaseModel):
    """A JSON object of the file.

    A key that is missing in the file has its default here and is still missing when the record is written again. A key
    that this version of textclf does not know is kept.
    """

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())


class Engine(Record):
    """What trained the model: `native`, or `model-maker` with the versions in its environment, the seconds of its phases
    and its peak memory."""

    name: str = "native"
    versions: Mapping[str, str | None] | None = None
    seconds: Mapping[str, float | None] | None = None
    peak_mib: float | None = None


class Encoder(Record):
    """Where the encoder came from, in which format, its fingerprint, and the numbers of its configuration."""

    source: str
    format: str
    sha256: str

    def configured(self, name: str) -> int | None:
        """A number of the configuration; None if encoders of this kind have no number of this name."""
        return (self.model_extra or {}).get(name)


class Epoch(Record):
    """The losses of an epoch in nats; a task adds its scores on the validation rows."""

    epoch: int
    training_loss: float | None = None
    validation_loss: float


class Spread(Record):
    """The mean of a score over the seeds and its standard deviation (of a sample)."""

    mean: float
    deviation: float


class SeedTraining(Record):
    """The training with one seed; `scores` are those of its best epoch by split and name."""

    seed: int
    best_epoch: int
    history: Sequence[Epoch]
    scores: Mapping[str, Mapping[str, float]]
    warnings: Sequence[str]
    stopped: str | None


class Seeds(Record):
    """All trainings of a run with several seeds, and by split the spread of each score."""

    trainings: Sequence[SeedTraining]
    __pydantic_extra__: dict[str, Mapping[str, Spread]]

    def __getitem__(self, split: str) -> Mapping[str, Spread]:
        return self.__pydantic_extra__[split]


class RefusedForm(Record):
    """A form of the model that did not pass its checks."""

    quantization: str
    reason: str


class Latency(Record):
    """The median time in milliseconds of `runs` runs of the exported file in LiteRT, for one input of `tokens` tokens, on this
    many threads of this processor."""

    milliseconds: float
    tokens: int
    threads: int
    runs: int
    processor: str


class Export(Record):
    """The exported file. `withheld` is why there is none; then `quantization`, `bytes` and `latency` are None. Earlier versions
    of textclf did not measure the latency.

    `requested` is the form that the recipe asks for, `quantization` the form written, and `refused` lists the forms that
    were tried before.
    """

    requested: str | None = None
    refused: Sequence[RefusedForm] = ()
    withheld: str | None = None
    quantization: str | None
    bytes: int | None
    latency: Latency | None = None


class RunMetrics(Record):
    """What a run records, whatever its task.

    `files` are the SHA-256 of the data files by name, `rows` the numbers of rows by split. `stopped` is why the training
    ended early. `seconds` is the duration of the whole run.
    """

    name: str
    versions: Mapping[str, str | None]
    engine: Engine = Engine()
    seed: int
    files: Mapping[str, str]
    encoder: Encoder
    rows: Mapping[str, int]
    findings: Sequence[str]
    warnings: Sequence[str] = ()
    stopped: str | None = None
    precision: str | None = None
    history: Sequence[Epoch]
    best_epoch: int
    seeds: Seeds | None = None
    export: Export
    recipe: Mapping[str, Any] | None = None
    seconds: float | None = None

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The record of the finished run in `folder`; also one of the first textclf, which had no version.

        Raises RunError if it is missing or damaged, or was written by a newer textclf or another program.
        """
        return cls.from_dict(read_metrics(folder), folder / METRICS)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], file: Path) -> Self:
        """The record with the values of `file`. Raises RunError, which names the first damaged key."""
        try:
            return cls.model_validate({key: value for key, value in values.items() if key not in ("format", "version")})
        except ValidationError as error:
            raise RunError(
                f"{file}: the metrics are damaged: {_problem(error)}; restore the file, or train again"
            ) from error

    def as_dict(self) -> dict[str, Any]:
        """The values of `metrics.json`, in its order."""
        dumped = self.model_dump(exclude_unset=True)
        values = {"format": METRICS_FORMAT, "version": METRICS_VERSION, **dumped}
        return {key: values[key] for key in sorted(values, key=_place)}

    def write(self, folder: Path) -> None:
        """Writes `metrics.json` into the folder of the run."""
        write_text(folder / METRICS, metrics_json(self.as_dict()))

    def with_changes(self, **changes: Any) -> Self:
        """The record with other values of some keys."""
        return self.model_copy(update=changes)


def _place(key: str) -> float:
    return _ORDER.index(key) if key in _ORDER else _ORDER.index("recipe") - 0.5


def _problem(error: ValidationError) -> str:
    """The first problem of the values, with the path of its key."""
    first = error.errors(include_url=False)[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"`{key}` is missing"
    found = repr(first["input"])
    shown = found if len(found) <= 60 else found[:60] + "…"
    return f"`{key}` is {shown}; {first['msg'].replace('Input should be', 'expected', 1)}"
