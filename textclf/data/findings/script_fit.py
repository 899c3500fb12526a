"""Checks whether an encoder knows the language of the texts: takes texts and a WordPiece tokenizer, and returns
findings.

The number of [UNK] says little: vocabularies contain the single letters of many scripts, so Arabic becomes letters, not
[UNK]. The script matters, and the fraction of the longer words that are whole entries of the vocabulary. Measured on
whole data sets with the built-in encoder, for words of four letters or more: English 79 % (tweets with hashtags) to 96
% (questions to a bank), French tweets 32 %, German tweets 9 %.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from textclf.data.findings.finding import Finding, enumerated, of_rows, percent
from textclf.data.tokens.encoded import TextTokenizer

# A row is in an unknown language if fewer of its longer words are whole entries. Between 0.32 and 0.79, see above; rows
# vary more than data sets, and a vocabulary made for a language of long compounds holds fewer of them as a whole.
_LEAST_WHOLE = 0.45

_LONGER_WORD = 4

_LEAST_WORDS = 4

# Fractions of the rows that are worth a finding; a few foreign rows are not.
_SCRIPT_ROWS, _LANGUAGE_ROWS = 0.1, 0.25

_LEAST_ROWS = 3

# Characters of a text that are checked, and rows at a time. This bounds the memory.
_LOOKED_AT = 2000

_BATCH = 4096

# A script with this many entries of two letters or more is known; for scripts without blanks, single characters count.
_KNOWN_ENTRIES, _KNOWN_CHARACTERS = 100, 2000

_WORD = re.compile(r"[^\W\d_]+")

_SCRIPT_NAMES = {"CJK": "Chinese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean"}


def fit_findings(
    file: str, texts: Sequence[tuple[str, ...]], rows: Sequence[int], tokenizer: TextTokenizer, source: str
) -> list[Finding]:
    """Reports rows in a script, or in a language written in a known script, that the encoder does not know.

    `source` is the encoder's name in the recipe. Words that the tokenizer of averaged words learned say nothing.
    """
    if tokenizer.kind == "regex":
        return []
    vocabulary = _Vocabulary(tokenizer)
    places: dict[str, list[int]] = {"unknown_script": [], "unknown_language": []}
    word_counts, token_counts, scripts = Counter[str](), Counter[str](), Counter[str]()
    judged = 0
    for begin in range(0, len(texts), _BATCH):
        batch = texts[begin : begin + _BATCH]
        words_of = [_WORD.findall(" ".join(text[:_LOOKED_AT] for text in row_texts)) for row_texts in batch]
        vocabulary.look_up({word for words in words_of for word in words})
        for place, words in enumerate(words_of, begin):
            script = _script_of_row(words)
            longer = [word for word in words if len(word) >= _LONGER_WORD]
            if script and not vocabulary.knows_script(script):
                kind = "unknown_script"
                scripts[_shown_script(script)] += 1
            elif len(longer) >= _LEAST_WORDS:
                judged += 1
                if sum(map(vocabulary.whole.__getitem__, longer)) >= _LEAST_WHOLE * len(longer):
                    continue
                kind = "unknown_language"
            else:
                continue
            places[kind].append(place)
            word_counts[kind] += len(words)
            token_counts[kind] += sum(map(vocabulary.tokens.__getitem__, words))
    findings = []
    for kind, least in (("unknown_script", _SCRIPT_ROWS * len(texts)), ("unknown_language", _LANGUAGE_ROWS * judged)):
        own = places[kind]
        if len(own) >= max(_LEAST_ROWS, least):
            names = enumerated([name for name, _ in scripts.most_common(3)])
            what = f"a script ({names})" if kind == "unknown_script" else "a language"
            message = (
                f"{file}: {len(own):,} of {len(texts):,} texts ({percent(len(own) / len(texts))}) seem to be in {what} "
                f"that the encoder does not know: it needs {token_counts[kind] / word_counts[kind]:.1f} tokens for a word "
                f"of theirs on average. {_remedy(source)}"
            )
            findings.append(of_rows(kind, message, [rows[place] for place in own]))
    return findings


def _remedy(source: str) -> str:
    if source.startswith("builtin"):
        return (
            "The built-in encoder knows English only; set encoder.source to an encoder for this language, or use "
            "`encoder: average-words`"
        )
    return "Set encoder.source to an encoder for this language, or use `encoder: average-words`"


class _Vocabulary:
    """The tokens of words, computed once per word: `tokens`, and `whole` if a word is an entry of the vocabulary."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self.tokens: dict[str, int] = {}
        self.whole: dict[str, bool] = {}
        self._tokenizer = tokenizer
        self._known_scripts: set[str] | None = None

    def look_up(self, words: set[str]) -> None:
        new = [word for word in words if word not in self.tokens]
        for word, ids in zip(new, self._tokenizer.pieces(new), strict=True):
            self.tokens[word] = len(ids)
            self.whole[word] = len(ids) == 1 and ids[0] != self._tokenizer.unknown_id

    def knows_script(self, script: str) -> bool:
        """Of the script's letters alone, nothing can be made but letters."""
        if script == "LATIN":
            return True
        if self._known_scripts is None:
            self._known_scripts = self._find_known_scripts()
        return script in self._known_scripts

    def _find_known_scripts(self) -> set[str]:
        entries, characters = Counter[str](), Counter[str]()
        for entry in self._tokenizer.vocabulary:
            plain = entry.removeprefix("##")
            if not plain.isascii() and plain.isalpha():
                (entries if len(plain) > 1 else characters)[_script(plain[0])] += 1
        known = {script for script, count in entries.items() if count >= _KNOWN_ENTRIES}
        known |= {script for script, count in characters.items() if count >= _KNOWN_CHARACTERS}
        return known | {"HIRAGANA", "KATAKANA"} if "CJK" in known else known


def _script_of_row(words: Sequence[str]) -> str:
    """Returns the script of most letters, or "" if there are no letters."""
    if all(map(str.isascii, words)):
        return "LATIN" if words else ""
    counts = Counter(_script(letter) for word in words for letter in word)
    return counts.most_common(1)[0][0]


@functools.lru_cache(maxsize=1 << 16)
def _script(letter: str) -> str:
    return "LATIN" if letter.isascii() else unicodedata.name(letter, "?").split()[0].removesuffix("-HIRAGANA")


def _shown_script(script: str) -> str:
    return _SCRIPT_NAMES.get(script, script.capitalize())
