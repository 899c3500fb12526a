"""How a recipe's model reads texts that are longer than `encoder.max_length`."""

from __future__ import annotations

from textclf.data.tokens.text_windows import LongTexts, WindowPlan
from textclf.recipe.settings import EncoderSettings
from textclf.recipe.values import MOST_WINDOWS, default_stride


def long_texts_of(settings: EncoderSettings, max_length: int) -> LongTexts:
    """Returns what `encoder.overflow` means for rows of this length."""
    if settings.overflow != "windows":
        return settings.overflow
    return WindowPlan(settings.stride or default_stride(max_length), settings.max_windows or MOST_WINDOWS)
