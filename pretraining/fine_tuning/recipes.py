"""The recipes that are compared: takes a YAML file of named changes to the default, returns checked settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError

from pretraining.settings import Count, Section, Weight
from textclf.errors import RecipeError

DEFAULT = Path(__file__).parents[1] / "fine_tuning.yaml"

Fraction = Annotated[float, Field(ge=0, lt=1)]


class FineTuning(Section):
    """Settings with the names of a recipe's `training` section mean the same and have the same defaults. The others are not
    in textclf: `rate_by_layer`, `r_drop` and `attention_dropout`, which is None for the rate that the encoder names."""

    epochs: Count = 4
    batch_size: Count = 32
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 5e-5
    warmup: Fraction = 0.1
    weight_decay: Fraction = 0.01
    dropout: Fraction = 0.1
    label_smoothing: Fraction = 0.0
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    freeze: Annotated[int, Field(ge=0)] | None = None
    rate_by_layer: Annotated[float, Field(gt=0, le=1)] = 1.0
    r_drop: Weight = 0.0
    attention_dropout: Fraction | None = None
    max_length: Annotated[int, Field(ge=8, le=512)] = 128

    @property
    def changes(self) -> dict[str, Any]:
        """What the results say of a recipe: RECIPE of `pretraining.evaluate` and every setting that differs."""
        named = ("epochs", "batch_size", "learning_rate")
        default = FineTuning()
        others = {key: value for key, value in self if key not in named and value != getattr(default, key)}
        return {**{key: getattr(self, key) for key in named}, **others, "max_length": self.max_length}

    @property
    def together(self) -> tuple[Any, ...]:
        """Recipes for which this is equal can be trained side by side: they read the same batches in the same way."""
        return self.batch_size, self.max_length, self.freeze, self.r_drop > 0, self.attention_dropout


def read_recipes(file: Path) -> dict[str, FineTuning]:
    """Returns the recipes of a YAML file by name, in its order. Raises RecipeError with every problem of the file."""
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(
            f"--recipes: {file} cannot be read ({error.strerror}); expected a YAML file like {DEFAULT}"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{file}: is not YAML ({error}); correct it, {DEFAULT} is an example") from error
    if not isinstance(values, dict) or not values:
        raise RecipeError(f"{file}: has no lines of `name: {{key: value}}`; {DEFAULT} is an example")
    recipes, problems = {}, []
    for name, changes in values.items():
        try:
            recipes[str(name)] = FineTuning.model_validate({} if changes is None else changes)
        except ValidationError as error:
            problems += [f"{file}: `{name}`: {_shown(fault)}" for fault in error.errors()]
    if problems:
        raise RecipeError("\n".join(problems))
    return recipes


def _shown(fault: Mapping[str, Any]) -> str:
    return f"{'.'.join(map(str, fault['loc']))}: {fault['msg']} (found {fault['input']!r})"
