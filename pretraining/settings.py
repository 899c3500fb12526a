"""The settings that decide the result of a run: read from YAML, typed and checked.

`settings.yaml` explains every key. Machine and folders are arguments of the command, not settings.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from textclf.encoders.checkpoint import MobileBertConfig
from textclf.errors import RecipeError

DEFAULT = Path(__file__).parent / "settings.yaml"
_LARGEST_FILE = 100_000


def _known_keys(values: Any) -> Any:
    """Pydantic would ignore an unknown key of a dataclass."""
    known = [field.name for field in fields(MobileBertConfig)]
    if isinstance(values, dict) and (unknown := [key for key in values if key not in known]):
        raise ValueError(f"unknown key {unknown[0]!r}; expected keys of a MobileBERT: {', '.join(known)}")
    return values


Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Ramp = tuple[Weight, Weight]
"""The weight of a loss at the start and at the end of the run; it changes linearly."""
Config = Annotated[MobileBertConfig, BeforeValidator(_known_keys)]


class Section(BaseModel):
    """Unknown keys are errors, and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Budget(Section):
    tokens: Count | None = None
    seconds: Positive | None = None

    @model_validator(mode="after")
    def _one(self) -> Budget:
        if (self.tokens is None) == (self.seconds is None):
            raise ValueError("expected exactly one of `tokens` and `seconds`")
        return self


class Mixture(Section):
    tokens: Count
    lengths: Annotated[tuple[Count, ...], Field(min_length=1)]
    short: Count
    crops: Share
    second_texts: Share
    holes: Share
    run_on: Share

    @property
    def longest(self) -> int:
        return self.lengths[-1]

    @model_validator(mode="after")
    def _lengths_fit(self) -> Mixture:
        if list(self.lengths) != sorted(set(self.lengths)) or any(length % 8 for length in self.lengths):
            raise ValueError(f"`lengths` are {list(self.lengths)}; expected increasing multiples of 8")
        if odd := [length for length in self.lengths if self.tokens % length]:
            raise ValueError(f"`tokens` is {self.tokens}, which is not a multiple of the lengths {odd}")
        return self


class Optimiser(Section):
    betas: tuple[Share, Share]
    weight_decay: Weight
    clip_norm: Positive
    warm_up: Annotated[float, Field(gt=0, lt=1)]


class Fit(Section):
    batches: Count
    tokens: Count


class Relations(Section):
    heads: Count
    rows: Annotated[float, Field(gt=0, le=1)]


class Log(Section):
    steps: Count
    held_out_steps: Count


class LossWeights(Section):
    embeddings: Ramp
    minilm_states: Ramp
    minilm_sentence: Ramp
    mpnet_states: Ramp
    mpnet_sentence: Ramp
    relations: Ramp


class StudentSettings(Section):
    """`minilm_layers[i]` is the layer, from 0, from whose output layer i learns. `mpnet_layers` maps numbers of states,
    of which 0 is the embeddings' output."""

    config: Config
    minilm_layers: tuple[Annotated[int, Field(ge=0)], ...]
    mpnet_layers: dict[Count, Count]
    learning_rate: Positive
    losses: LossWeights

    @model_validator(mode="after")
    def _form(self) -> StudentSettings:
        config, layers = self.config, self.config.num_hidden_layers
        if (
            config.num_feedforward_networks != 1
            or config.key_query_shared_bottleneck
            or config.use_bottleneck_attention
        ):
            raise ValueError(
                "a student has one feed-forward network per layer and reads queries, keys and values from the wide stream;"
                " set num_feedforward_networks: 1, key_query_shared_bottleneck: false, use_bottleneck_attention: false"
            )
        if len(self.minilm_layers) != layers:
            raise ValueError(f"`minilm_layers` has {len(self.minilm_layers)} numbers for {layers} layers")
        if beyond := [number for number in self.mpnet_layers if number > layers]:
            raise ValueError(f"`mpnet_layers` names the states {beyond}, but the student has {layers} layers")
        return self


class Settings(Section):
    seed: Annotated[int, Field(ge=0)]
    budget: Budget
    mixture: Mixture
    optimiser: Optimiser
    fit: Fit
    sentence_scale: Positive
    relations: Relations
    log: Log
    students: Annotated[dict[str, StudentSettings], Field(min_length=1)]

    @property
    def reads_mpnet(self) -> bool:
        return any(student.mpnet_layers for student in self.students.values())

    @model_validator(mode="after")
    def _lengths_fit(self) -> Settings:
        for name, student in self.students.items():
            if student.config.max_position_embeddings < self.mixture.longest:
                raise ValueError(
                    f"`mixture.lengths` ends with {self.mixture.longest}, but the student {name} has only"
                    f" {student.config.max_position_embeddings} positions"
                )
        if odd := [length for length in self.mixture.lengths if self.fit.tokens < length]:
            raise ValueError(f"`fit.tokens` is {self.fit.tokens}, less than one row of the lengths {odd}")
        return self


def read_settings(file: Path, budget: dict[str, float] | None = None) -> Settings:
    """Returns the settings of a YAML file, with another budget if one is passed.

    Raises RecipeError with every problem of the file.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise RecipeError(f"{file}: is larger than {_LARGEST_FILE:,} bytes; expected a YAML file like {DEFAULT}")
        values = yaml.safe_load(content)
    except OSError as error:
        raise RecipeError(f"{file}: cannot be read ({error.strerror}); expected a YAML file like {DEFAULT}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{file}: is not YAML ({error}); correct it, {DEFAULT} is an example") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{file}: is not a section of `key: value` lines; {DEFAULT} is an example")
    try:
        return Settings.model_validate(values if budget is None else {**values, "budget": budget})
    except ValidationError as error:
        raise RecipeError("\n".join(f"{file}: {_shown(fault)}" for fault in error.errors())) from error


def _shown(fault: Any) -> str:
    key = ".".join(map(str, fault["loc"])) or "settings"
    given = "" if isinstance(fault["input"], (dict, BaseModel)) else f" (found {fault['input']!r})"
    return f"`{key}`: {fault['msg'].removeprefix('Value error, ')}{given}"
