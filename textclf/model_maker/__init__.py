"""TFLite Model Maker 0.4.3 as a training engine, in an environment of its own, and as the baseline to compare with."""

from typing import Literal, get_args

Engine = Literal["native", "model-maker"]
"""What trains and exports: the project itself, or Model Maker."""

ENGINES: tuple[Engine, ...] = get_args(Engine)
