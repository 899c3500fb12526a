"""Decides whether an interrupted training may be resumed with this recipe, these data and this encoder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from textclf.encoders.interface import AnyEncoder
from textclf.encoders.prepare import PreparedData
from textclf.encoders.sources.builtin import EARLIER, builtin_change, builtin_with, is_builtin
from textclf.errors import RunError
from textclf.recipe.settings import Recipe
from textclf.training.saved.first_states import first_fingerprint, is_split_as_first

START_AGAIN = "start it again with force=True (--force)"

# A resumed run may change these settings: they only decide how the trained weights are used, or when training stops.
_NOT_TRAINING = {"calibrate", "reject_for_precision", "watchers"}


def training_fingerprint(recipe: Recipe, data: PreparedData, encoder: str) -> str:
    """Returns a hash of everything that training depends on. `encoder` is the fingerprint of the encoder.

    That is what the model reads, token ids and labels, not the files, columns and paths from which they come. The test
    rows count only if there are several seeds, because each seed's scores on them are recorded when it ends.
    """
    splits = [data.dataset.train, data.dataset.validation]
    if data.dataset.test is not None and recipe.training.seeds is not None:
        splits.append(data.dataset.test)
    settings = recipe.training.model_dump(mode="json", exclude=_NOT_TRAINING)
    digest = hashlib.sha256()
    facts = [settings, data.max_length, list(data.dataset.labels), encoder]
    digest.update(json.dumps(facts, sort_keys=True).encode())
    for split in splits:
        encoded = data.encoded[split.name]
        windows = [data.texts[split.name]] if split.name in data.texts else []
        for array in (encoded.flat_ids, encoded.offsets, encoded.first_lengths, split.labels, *windows):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def check_same_training(
    facts: Mapping[str, Any], recipe: Recipe, data: PreparedData, checkpoint: AnyEncoder, target: Path
) -> None:
    """Raises RunError unless the saved state with these facts belongs to the training that is asked for now.

    `target` is the run folder that messages name.
    """
    current = checkpoint.fingerprint()
    if "training" not in facts:
        _check_first_state(facts, recipe, data, current, target)
    elif facts["training"] != training_fingerprint(recipe, data, current):
        _check_builtin(recipe, _encoder_before(facts, recipe, data), target)
        raise RunError(
            f"{target}: the recipe, the data or the encoder changed since the run was interrupted, in what training "
            f"depends on, so it cannot continue as the same run; undo the change, or {START_AGAIN}"
        )


def encoder_facts(recipe: Recipe, checkpoint: AnyEncoder) -> dict[str, str]:
    """What a saved state holds about the encoder from which the training started."""
    return {"source": recipe.encoder.source, "sha256": checkpoint.fingerprint()}


def _check_builtin(recipe: Recipe, before: str | None, target: Path) -> None:
    """Raises RunError if the training began with `before`, and the built-in encoder that the recipe names is another one."""
    change = builtin_change(recipe.encoder.source, before) if before is not None else None
    if before is None or change is None:
        return
    name = builtin_with(before)
    remedy = f"set encoder.source to builtin:{name}" if name else "continue it with the textclf that started it"
    raise RunError(f"{target}: {change}; the interrupted run cannot continue with it; {remedy}, or {START_AGAIN}")


def _encoder_before(facts: Mapping[str, Any], recipe: Recipe, data: PreparedData) -> str | None:
    """Returns the fingerprint of the built-in encoder with which a training began; None if that is not known.

    States of textclf 0.1 do not hold it, but some are those of this training with a built-in encoder of that version.
    """
    recorded = facts.get("encoder")
    if isinstance(recorded, dict):
        return recorded.get("sha256") if is_builtin(str(recorded.get("source"))) else None
    for earlier in EARLIER:
        if facts.get("training") == training_fingerprint(recipe, data, earlier):
            return earlier
        if "fingerprint" in facts and facts["fingerprint"] == first_fingerprint(recipe, data, earlier):
            return earlier
    return None


def _check_first_state(
    facts: Mapping[str, Any], recipe: Recipe, data: PreparedData, encoder: str, target: Path
) -> None:
    """The same for a state of the first textclf."""
    older = f"{target}: the interrupted run was saved by an older textclf"
    if facts.get("fingerprint") != first_fingerprint(recipe, data, encoder):
        _check_builtin(recipe, _encoder_before(facts, recipe, data), target)
        raise RunError(
            f"{older}, for another recipe, other data, another encoder or files in another folder (it compared their "
            f"paths and all settings), so it cannot continue as the same run; undo the change, or {START_AGAIN}"
        )
    if not is_split_as_first(recipe, data):
        raise RunError(
            f"{older}, which split these rows differently (texts that the model reads as equal now stay together), so "
            f"it cannot continue as the same run; resume it with that version, or {START_AGAIN}"
        )
