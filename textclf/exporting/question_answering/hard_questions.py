"""Questions about contexts that the tokenizers of different runtimes may split differently: the same 320 for every call.

They consist of the texts of `hard_texts`. Some contexts are longer than a model reads, and some questions are cut.
"""

from __future__ import annotations

import random

from textclf.exporting.hard_texts import hard_texts

QUESTIONS = 320

_MOST_TEXTS = 5


def hard_questions() -> list[tuple[str, str]]:
    """Returns 320 pairs of a question and its context. None of them is empty."""
    chance = random.Random(1)
    # The Task Library reads beyond a NUL character, and a phone cannot be asked an empty question.
    texts = [text for text in hard_texts() if text.strip() and "\0" not in text]
    return [
        (chance.choice(texts), " ".join(chance.sample(texts, chance.randint(1, _MOST_TEXTS)))) for _ in range(QUESTIONS)
    ]
