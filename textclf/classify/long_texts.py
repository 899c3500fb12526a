"""How an open classifier reads long texts: what its settings say, and how many texts are in memory at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from textclf.data.tokens.text_windows import LongTexts, WindowPlan
from textclf.errors import ModelError
from textclf.recipe.values import MOST_WINDOWS, default_stride
from textclf.tflite.format.packed_files import EXPORT_AGAIN
from textclf.tflite.metadata import ModelMetadata

# Beyond this many characters, the tokens of further texts wait, so that the memory does not grow with the texts.
_CALL_CHARACTERS = 1 << 22


def long_texts_of(name: str, metadata: ModelMetadata, max_length: int) -> LongTexts:
    """Returns what the settings in a model say about texts of more than `max_length` tokens.

    Raises ModelError for windows over what has none. `name` is that of the model in messages.
    """
    settings = metadata.settings or {}
    overflow = settings.get("overflow", "head")
    if overflow != "windows":
        part: LongTexts = overflow
        return part
    if metadata.tokenizer != "bert" or len(settings.get("text", ())) > 1:
        raise ModelError(
            f"{name}: its settings say that long texts are read in windows, which needs BERT's tokenizer and single texts; "
            f"{EXPORT_AGAIN}"
        )
    return WindowPlan(settings.get("stride", default_stride(max_length)), settings.get("max_windows", MOST_WINDOWS))


def calls_of(rows: Sequence[tuple[str, ...]], most: int) -> Iterator[Sequence[tuple[str, ...]]]:
    """Yields the rows in groups of at most `most`, and of not many more characters than memory should hold at once."""
    begin = characters = 0
    for place, row in enumerate(rows):
        characters += sum(map(len, row))
        if place + 1 - begin == most or characters >= _CALL_CHARACTERS:
            yield rows[begin : place + 1]
            begin, characters = place + 1, 0
    if begin < len(rows):
        yield rows[begin:]
