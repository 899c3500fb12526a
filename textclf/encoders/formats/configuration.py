"""Reads a MobileBertConfig from the settings of a JSON configuration, and names the settings that textclf does not
support.

Takes a `config.json` or `bert_config.json` and the values that its writer omits, and returns a checked configuration.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from textclf.encoders.checkpoint import MobileBertConfig
from textclf.errors import EncoderError

# The settings that the forward pass supports. They have no field in MobileBertConfig.
_ONLY_SUPPORTED: dict[str, Any] = {
    "hidden_act": "relu",
    "normalization_type": "no_norm",
    "trigram_input": True,
    "use_bottleneck": True,
}
_LARGEST_COUNT = 2**31 - 1
_LONGEST_SHOWN = 80


def read_json(file: Path, largest: int = 2**20) -> dict[str, Any]:
    """Returns a JSON object from a file of at most `largest` bytes.

    Raises EncoderError with the position for other files.
    """
    try:
        if file.stat().st_size > largest:
            raise EncoderError(f"{file}: is longer than {largest:,} bytes, expected a short JSON object; get it again")
        content = json.loads(file.read_bytes().decode("utf-8"))
    except OSError as error:
        raise EncoderError(f"{file}: cannot be read ({error.strerror or error}); get the file again") from error
    except UnicodeDecodeError as error:
        raise EncoderError(f"{file}: is not UTF-8 text (byte {error.start}); expected a JSON object") from error
    except json.JSONDecodeError as error:
        raise EncoderError(
            f"{file}:{error.lineno}:{error.colno}: is not JSON ({error.msg}); get the file again"
        ) from error
    except ValueError as error:
        # A number of more digits than Python reads.
        raise EncoderError(f"{file}: is not JSON that can be read ({error}); get the file again") from error
    except RecursionError as error:
        raise EncoderError(f"{file}: is nested too deeply to be a configuration; get the file again") from error
    if not isinstance(content, dict):
        raise EncoderError(f"{file}: holds a JSON {type(content).__name__}, expected an object of settings")
    return content


def shown(value: object) -> str:
    """Returns a value as JSON has it, shortened for a message."""
    text = json.dumps(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"


def make_config(settings: Mapping[str, Any], file: Path) -> MobileBertConfig:
    """Takes settings under their original names and returns a configuration. `file` is their source, for messages.

    Raises EncoderError for a missing or ill-typed setting, and for variants that the forward pass does not support.
    """
    for key, supported in _ONLY_SUPPORTED.items():
        found = settings.get(key)
        if found != supported:
            raise EncoderError(
                f"{file}: `{key}` is {shown(found)}, and only {json.dumps(supported)} is supported;"
                " use an encoder of the OPT family, such as uncased_L-24_H-128_B-512_A-4_F-4_OPT"
            )
    values: dict[str, Any] = {
        field.name: _typed(settings, field.name, field.type, file) for field in fields(MobileBertConfig)
    }
    config = MobileBertConfig(**values)
    if config.intra_bottleneck_size % config.num_attention_heads:
        raise EncoderError(
            f"{file}: `intra_bottleneck_size` {config.intra_bottleneck_size} cannot be divided among"
            f" `num_attention_heads` {config.num_attention_heads}"
        )
    return config


def _typed(settings: Mapping[str, Any], key: str, type_name: Any, file: Path) -> int | float | bool:
    value = settings.get(key)
    if key == "key_query_shared_bottleneck" and settings.get("use_bottleneck_attention") is True:
        # Attention then reads the layer's bottleneck. A shared bottleneck, which some files contain, is never used.
        return False
    if type_name == "bool":
        if isinstance(value, bool):
            return value
        expected = "true or false"
    elif type_name == "float":
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1:
            return float(value)
        expected = "a number from 0 up to 1"
    else:
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST_COUNT:
            return value
        expected = "a positive whole number"
    found = shown(value) if key in settings else "missing"
    raise EncoderError(f"{file}: `{key}` is {found}, expected {expected}")
