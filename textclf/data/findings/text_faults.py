"""Reports texts that a person did not write like this: markup, mojibake, lost characters and control characters.

Mojibake is text that was decoded with the wrong encoding, `Ã©` for `é`. It is detected by the characters that the bytes
of one letter become; pairs that also occur in accented text, such as a capital letter before a quotation mark, do not
count.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence

from textclf.data.findings.finding import Finding, counted, of_rows, percent, visible

_TAG = re.compile(
    r"</?(?:a|abbr|b|blockquote|body|br|button|center|code|dd|div|dl|dt|em|font|footer|form|h[1-6]|head|header|hr|html|i|"
    r"iframe|img|input|li|link|meta|nobr|o:p|ol|option|p|pre|s|script|section|small|span|strike|strong|style|sub|sup|"
    r"svg|table|tbody|td|textarea|tfoot|th|thead|title|tr|tt|u|ul|video|wbr)(?:\s[^<>]{0,500})?\s*/?>|<!--|<!DOCTYPE|<!\[CDATA\[",
    re.IGNORECASE,
)

_ENTITY = re.compile(r"&(?:[A-Za-z][A-Za-z0-9]{1,24}|#\d{1,7}|#[xX][0-9A-Fa-f]{1,6});")

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]")

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def _tail_of(codec: str) -> str:
    """Returns the characters that the bytes 80 to BF (the later bytes of a character in UTF-8) have in another
    encoding."""
    return bytes(range(0x80, 0xC0)).decode(codec, "ignore")


_CP1252_TAIL = "\u0080-\u00bf" + _tail_of("cp1252")  # the same bytes in latin-1

_CP1251_TAIL = _tail_of("cp1251")

# Of two bytes: Latin letters after Â, Ã, Ä, Å; Greek, Cyrillic, Hebrew, Arabic only in runs, as one pair may be text.
_LATIN = re.compile(f"[ÂÃ][{_CP1252_TAIL}]|[ÄÅ][\u0080-\u009f\u00a1-\u00aa\u00ac-\u00ba\u00bc-\u00bfŠŒŽšœžŸƒˆ˜†‡‰]")

_PAIRS = re.compile(f"(?:[ÎÏÐÑÒÓ×ØÙÚÛ][{_CP1252_TAIL}]\\s?){{3,}}")

_SYMBOLS = re.compile(
    f"â€[{_CP1252_TAIL}]|â[\u0082„†‡ˆ‰Š‹Œ\u008d˜™š›œ\u009džŸ][{_CP1252_TAIL}]|ï»¿|ï¿½|ï¸\u008f|ð[\u009fŸ][{_CP1252_TAIL}]{{2}}"
)

_WIDE = re.compile(f"(?:[àãäåæçèéêëìíï][{_CP1252_TAIL}]{{2}}){{2,}}")

_CYRILLIC = re.compile(f"(?:[РС][{_CP1251_TAIL}]){{2,}}|(?:вЂ[{_CP1251_TAIL}])")

_MAC = re.compile("√[©®†°±≥∫º¶ß™´¨≠ØÄ≤]|‚Ä[ôúùìî¶¢]|¬[†∞£©´ª]")

_DOS = re.compile(f"[├┬][{_tail_of('cp437')}{_tail_of('cp850')}]|ÔÇ[{_tail_of('cp850')}]|ΓÇ[{_tail_of('cp437')}]")

# Cyrillic, Greek and others in their own one-byte encodings, read as a Western one: words of accented letters only.
_ACCENTS_ONLY = re.compile(r"(?<![^\W\d_])[\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u00ff]{4,}(?![^\W\d_])")

_LEAST_ACCENTED_WORDS = 2

_SHIFT_JIS = re.compile("(?:ƒ[!-~\u0080-\u00ffŒœŠšŽžŸ‚„…†‡ˆ‰‹]){2,}|(?:‚[\u00a0-\u00ff]){3,}")


def markup_in(text: str) -> str | None:
    """Returns the first HTML tag or entity of a text."""
    if "<" in text and (tag := _TAG.search(text)):
        return tag[0]
    if "&" in text:
        for entity in _ENTITY.finditer(text):
            if html.unescape(entity[0]) != entity[0]:
                return entity[0]
    return None


def mojibake_in(text: str) -> str | None:
    """Returns the first characters of a text that were decoded with the wrong encoding."""
    if text.isascii():
        return None
    for pattern in _MOJIBAKE:
        if found := pattern.search(text):
            return found[0]
    if len(words := _ACCENTS_ONLY.findall(text)) >= _LEAST_ACCENTED_WORDS and len(set("".join(words))) > 3:
        return str(words[0])
    return None


_MOJIBAKE = (_LATIN, _SYMBOLS, _PAIRS, _WIDE, _CYRILLIC, _MAC, _DOS, _SHIFT_JIS)


def text_findings(file: str, texts: Sequence[tuple[str, ...]], rows: Sequence[int]) -> list[Finding]:
    """Reports markup, mojibake, replacement and control characters in the texts of one file, with their rows."""
    found: dict[str, list[int]] = {"markup": [], "mojibake": [], "lost_characters": [], "control_characters": []}
    examples: dict[str, str] = {}

    def note(kind: str, row: int, example: str) -> None:
        examples.setdefault(kind, example)
        found[kind].append(row)

    for row_texts, row in zip(texts, rows, strict=True):
        text = row_texts[0] if len(row_texts) == 1 else "\n".join(row_texts)
        if ("<" in text or "&" in text) and (markup := markup_in(text)):
            note("markup", row, markup)
        if control := _CONTROL.search(text):
            note("control_characters", row, control[0])
        if text.isascii():
            continue
        if _REPLACEMENT in text:
            note("lost_characters", row, _REPLACEMENT)
        if garbled := mojibake_in(text):
            note("mojibake", row, garbled)
    return [
        of_rows(kind, f"{file}: {_MESSAGES[kind](_texts(len(own), len(rows)), visible(examples[kind]))}", own)
        for kind, own in found.items()
        if own
    ]


def _texts(count: int, of: int) -> str:
    return f"{counted(count, 'text')} ({percent(count / of)})"


def _remedy_for_control(example: str) -> str:
    """Returns what to do. In cp1252 the bytes 80 to 9F are quotation marks, dashes and letters, in latin-1 nothing."""
    code = re.search(r"\\x([89][0-9a-f])", example)
    if code is None:
        return "remove them from the data"
    try:
        meant = bytes([int(code[1], 16)]).decode("cp1252")
    except UnicodeDecodeError:
        return "remove them from the data"
    return f"in cp1252 this one is `{meant}`: if it stands for that, replace it or export the data again as UTF-8"


_MESSAGES: dict[str, Callable[[str, str], str]] = {
    "markup": lambda texts, example: (
        f"{texts} with HTML tags or entities, for example {example}; the model reads them as text. Remove them from the "
        "training data unless the texts that the model will read contain them too"
    ),
    "mojibake": lambda texts, example: (
        f"{texts} with what looks like mojibake, for example {example}: text that was decoded with the wrong encoding. "
        "Unless these characters are meant, set dataset.encoding if the file has another encoding, or export the data again"
    ),
    "lost_characters": lambda texts, example: (
        f"{texts} with the replacement character U+FFFD ({example}), where another program lost a character; export the "
        "data again from its source"
    ),
    "control_characters": lambda texts, example: (
        f"{texts} with control characters, for example {example}; {_remedy_for_control(example)}"
    ),
}
