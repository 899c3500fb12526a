"""Texts that the tokenizers of different runtimes may split differently: the same 520 for every call, in five languages.

A tenth are plain sentences. The others contain what breaks tokenizers: emoji, accents in both Unicode forms, control
characters, Chinese and Japanese, words of more than 100 bytes, no text, and much more text than a model reads.
"""

from __future__ import annotations

import random
import unicodedata

_SENTENCES = {
    "English": "The parcel came late and the box was open, but support answered within the hour.",
    "French": "Où est mon colis ? J'ai déjà payé hier, et le café à côté n'a rien reçu, c'est agaçant.",
    "German": "Die Rechnung über 49,90 € ist falsch: Größe und Straße stimmen nicht, bitte ändern Sie das.",
    "Spanish": "¡Qué rápido! El niño llamó mañana por la noche y todavía no he recibido la devolución.",
    "Japanese": "昨日注文した商品がまだ届きません。返金をお願いします。カードは使えますか？",
}
_EMOJI = ("😀", "👍🏽", "👩‍👩‍👧‍👦", "🇫🇷", "❤️", "1️⃣", "🤷‍♀️", "🫠")
_CONTROL = (
    "\u0000",
    "\u0001",
    "\u0007",
    "\u001b[31m",
    "\u007f",
    "\u0085",
    "\u200b",
    "\u200d",
    "\u202e",
    "\ufeff",
    "\ufffd",
    "\u00ad",
)
_SPACES = ("\t", "\r\n", "\u00a0", "\u3000", "\u2028", "  ")
_CJK = ("我们明天去银行", "東京都", "한국어 문장", "你好world", "𠀀𠀁")
_SIGNS = ("…", "—", "«»", "$^`~|<>=+", "№", "½", "ﬁ", "İı", "ẞ", "𝔘𝔫𝔦", "#hash_tag", "@name", "a.b.c", "don't", "--")


def hard_texts() -> list[str]:
    """Returns 520 texts, 104 for each language."""
    chance = random.Random(0)
    texts = []
    for sentence in _SENTENCES.values():
        words = sentence.split() if " " in sentence else list(sentence)
        joint = " " if " " in sentence else ""
        for number in range(104):
            chosen = chance.sample(words, chance.randint(1, len(words)))
            texts.append(_changed(number, joint.join(chosen), sentence, chance))
    return texts


def _changed(number: int, text: str, sentence: str, chance: random.Random) -> str:
    """Returns the text with one of thirteen changes, which its number selects."""
    kind, place = number % 13, chance.randint(0, len(text))
    before, after = text[:place], text[place:]
    changes = (
        text,
        before + chance.choice(_EMOJI) * chance.randint(1, 3) + after,
        unicodedata.normalize("NFD", text),
        before + chance.choice(_CONTROL) + after,
        before + chance.choice(_SPACES) + after,
        f"{before}{chance.choice(_CJK)}{after}",
        text
        + " "
        + chance.choice(("x", "é", "字", "ß")) * chance.randint(45, 130)
        + " "
        + chance.choice(("a", "1")) * 101,
        "" if number % 2 else chance.choice(_SPACES),
        " ".join([sentence] * chance.randint(20, 60)),
        text.upper(),
        before + chance.choice(_SIGNS) + after,
        "".join(chr(chance.choice((chance.randint(33, 0x2FF), chance.randint(0x370, 0x1FFF)))) for _ in range(30)),
        " ".join(f"{chance.choice(_SIGNS)}{chance.randint(0, 9999)}{chance.choice(_EMOJI)}" for _ in range(8)),
    )
    return changes[kind]
