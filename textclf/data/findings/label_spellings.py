"""Groups the labels of a file that a person would read as the same label, and describes how their spellings differ.

Labels are not compared in pairs. They are sorted into buckets by normalised spellings, each coarser than the one
before, so the time grows only with the number of labels.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation

from textclf.data.findings.finding import Finding, counted, enumerated, named, of_rows, visible

_GROUPS_TOLD = 10

_LONGEST_COMPARED = 200

_LONGEST_TYPO = 60

_SHORTEST_TYPO = 5

# A label may be a typing error of another label that has at least this many times its rows.
_TYPO_RATIO = 10

# Characters without width, in addition to those of category Cf.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)

_SEPARATORS = re.compile(r"(?<=([^\W_]))[\s_\-‐‑‒–—―−/\\·•:|]+(?=([^\W_]))")

_OUTER_SEPARATORS = " _-‐‑‒–—―/\\|·•*#"

_DOTS_BETWEEN_LETTERS = re.compile(r"(?<=[^\W\d])\.(?=[^\W\d])")

_QUOTES = str.maketrans("", "", "'\"`´‘’‚‛“”„‟‹›«»′″「」『』＂＇")

_ENCLOSED = re.compile(r"[\[(<{](.+)[\])>}]")

_LEADING_ZEROS = re.compile(r"(?<![\d.,])0+(?=\d)")

_PLAIN_NUMBER = re.compile(r"[+\-]?\d+(?:[.,]\d*)?(?:e[+\-]?\d{1,3})?")

_GROUPED_NUMBER = re.compile(r"[+\-]?[1-9]\d{0,2}(?:[,.' \u00a0\u202f]\d{3})+")

# Letters of other scripts that look like Latin ones, and Arabic letters that look like Persian ones.
_LOOK_ALIKES = str.maketrans(
    "АВЕКМНОРСТУХЅІЈԌԚԜӀавекморстухѕіјԛԝһҮү" + "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧϹϳαικνορτυχϲ" + "ıɡɑℓ" + "يكىة",
    "ABEKMHOPCTYXSIJGQWIabekmopctyxsijqwhYy" + "ABEZHIKMNOPTYXCjaiкvoptuxc".replace("к", "k") + "igal" + "یکیه",
)

Folding = Callable[[str], str]

_IN_BLANKS, _IN_CAPITALS = "in blanks", "in capitals or blanks"


def _without_invisible(label: str) -> str:
    label = unicodedata.normalize("NFC", label)
    if label.isascii():
        return label
    visible_ones = "".join(one for one in label if unicodedata.category(one) not in ("Cf", "Cc") or one.isspace())
    return unicodedata.normalize("NFC", _INVISIBLE.sub("", visible_ones))


def _without_blanks(label: str) -> str:
    return " ".join(_without_invisible(label).split())


def _caseless(label: str) -> str:
    return _without_blanks(label).casefold()


def _compatible(label: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", _without_blanks(label)).casefold().split())


def _as_number(label: str) -> str:
    """Compares numbers by their value: 1, 1.0, 01 and 1,0 are equal."""
    plain = _compatible(label).replace("−", "-")
    try:
        if _GROUPED_NUMBER.fullmatch(plain):
            return str(Decimal(re.sub(r"[^\d+\-]", "", plain)))
        if _PLAIN_NUMBER.fullmatch(plain):
            return f"{Decimal(plain.replace(',', '.')).normalize() + 0:f}"
    except InvalidOperation:  # an exponent beyond what a decimal holds
        return plain
    return _LEADING_ZEROS.sub("", plain)


def _without_separators(label: str) -> str:
    """Ignores hyphens, underscores, slashes and blanks, and quotes and brackets around a label."""
    plain = _as_number(label)
    if _PLAIN_NUMBER.fullmatch(plain):
        return plain
    plain = plain.translate(_QUOTES).strip()
    while enclosed := _ENCLOSED.fullmatch(plain):
        plain = enclosed[1].strip()
    plain = plain.replace(" & ", " and ").rstrip(".,:;").strip()
    if sum(map(str.isalpha, plain)) > 2:  # `A-` is not `A`
        plain = plain.strip(_OUTER_SEPARATORS)
    plain = _SEPARATORS.sub(lambda found: "-" if found[1].isdigit() and found[2].isdigit() else "", plain)
    plain = _DOTS_BETWEEN_LETTERS.sub("", plain)
    return _as_number(plain) if any(map(str.isalnum, plain)) else _as_number(label)


def _without_accents(label: str) -> str:
    plain = _without_separators(label)
    if plain.isascii():
        return plain
    stripped = "".join(one for one in unicodedata.normalize("NFD", plain) if unicodedata.category(one) != "Mn")
    # In other scripts these marks are vowels; but Russian is written with and without the dots of ё.
    return stripped if stripped.isascii() else unicodedata.normalize("NFC", plain).replace("ё", "е")


def _as_it_looks(label: str) -> str:
    return _without_accents(label if label.isascii() else unicodedata.normalize("NFC", label).translate(_LOOK_ALIKES))


_FOLDINGS: tuple[tuple[str, Folding], ...] = (
    ("in how accented letters are stored (composed or decomposed)", lambda label: unicodedata.normalize("NFC", label)),
    ("in invisible characters", _without_invisible),
    (_IN_BLANKS, _without_blanks),
    (_IN_CAPITALS, _caseless),
    ("in full-width letters or other variants of characters", _compatible),
    ("in how a number is written", _as_number),
    ("in separators, quotation marks, brackets or capitals", _without_separators),
    ("in accents, separators or capitals", _without_accents),
    ("in letters of different scripts that look alike", _as_it_looks),
)


def alike_groups(labels: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Returns groups of labels that a person would read as the same label, in the order of the labels, with their
    difference."""
    compared = [label for label in labels if len(label) <= _LONGEST_COMPARED]
    leader = {label: label for label in compared}

    def first_of(label: str) -> str:
        while leader[label] != label:
            leader[label] = leader[leader[label]]
            label = leader[label]
        return label

    bucket: dict[str, str] = {}
    for label in compared:
        # Both are coarser than all normalisations before them, and neither is coarser than the other.
        for key in (_without_accents(label),) if label.isascii() else (_without_accents(label), _as_it_looks(label)):
            leader[first_of(label)] = first_of(bucket.setdefault(key, label))
    groups: dict[str, list[str]] = {}
    for label in compared:
        groups.setdefault(first_of(label), []).append(label)
    return [(_difference(group), group) for group in groups.values() if len(group) > 1]


def _difference(group: Sequence[str]) -> str:
    for difference, fold in _FOLDINGS:
        if len(set(map(fold, group))) == 1:
            return difference
    return "in spelling"


def alike_findings(file: str, labels: Sequence[str]) -> list[Finding]:
    """Returns a finding for each group of labels that a person would read as the same label, at most for the first
    groups."""
    groups = alike_groups(labels)
    findings = []
    for difference, group in groups[:_GROUPS_TOLD]:
        message = (
            f"{file}: the labels {_with_code_points(group, difference)} differ only {difference}; are they the "
            "same label? If so, write them alike in the file"
        )
        findings.append(Finding("similar_labels", message, len(group)))
    if len(groups) > _GROUPS_TOLD:
        rest = groups[_GROUPS_TOLD:]
        message = f"{file}: {counted(len(rest), 'more group')} of labels that differ only in how they are written"
        findings.append(Finding("similar_labels", message, sum(len(group) for _, group in rest)))
    return findings


def _with_code_points(group: Sequence[str], difference: str) -> str:
    """Lists labels. If only similar letters distinguish them, adds the code points of the letters outside ASCII."""
    if difference in (_IN_BLANKS, _IN_CAPITALS) or all(map(str.isascii, group)):
        return named(group)
    shown = []
    for label in group[:5]:
        others = [f"U+{ord(one):04X}" for one in label if not one.isascii()]
        more = " …" if len(others) > 6 else ""
        shown.append(f"{visible(label)} ({' '.join(others[:6]) or 'ASCII only'}{more})")
    return enumerated([*shown, f"{len(group) - 5:,} more"] if len(group) > 5 else shown)


def other_spellings(labels: Iterable[str], known: Sequence[str]) -> dict[str, str]:
    """Maps unknown labels to the known label that a person would read as the same."""
    found: dict[str, str] = {}
    asked = list(labels)
    for _, fold in _FOLDINGS:
        by_key = {fold(label): label for label in reversed(known) if len(label) <= _LONGEST_COMPARED}
        for label in asked:
            if label not in found and len(label) <= _LONGEST_COMPARED and (own := by_key.get(fold(label))):
                found[label] = own
    return found


def typing_errors(counts: Mapping[str, int]) -> dict[str, str]:
    """Maps rare labels to the frequent label that differs in one letter (added, missing, changed or swapped).

    Labels with digits are left out: they are usually numbered, not mistyped.
    """
    frequent = [label for label, count in counts.items() if count >= _TYPO_RATIO and _may_be_mistyped(label)]
    if not frequent:
        return {}
    # Two words that differ by one edit share a form among the words themselves and their versions without one letter.
    by_form: dict[str, list[str]] = {}
    for label in frequent:
        for form in _forms(label.casefold()):
            by_form.setdefault(form, []).append(label)
    largest = max(counts.values())
    found: dict[str, str] = {}
    for label, count in counts.items():
        if count * _TYPO_RATIO > largest or not _may_be_mistyped(label):
            continue
        near = {other for form in _forms(label.casefold()) for other in by_form.get(form, ())[:20]}
        meant = [other for other in near if counts[other] >= _TYPO_RATIO * count and _one_edit(label, other)]
        if meant:
            found[label] = max(meant, key=lambda other: (counts[other], other))
    return found


def _may_be_mistyped(label: str) -> bool:
    return _SHORTEST_TYPO <= len(label) <= _LONGEST_TYPO and not any(map(str.isdigit, label))


def _forms(word: str) -> set[str]:
    return {word, *(word[:place] + word[place + 1 :] for place in range(len(word)))}


def _one_edit(label: str, other: str) -> bool:
    """Returns whether one letter is added, missing, changed, or swapped with its neighbour."""
    one, two = label.casefold(), other.casefold()
    start = 0
    while start < min(len(one), len(two)) and one[start] == two[start]:
        start += 1
    end = 0
    while end < min(len(one), len(two)) - start and one[len(one) - 1 - end] == two[len(two) - 1 - end]:
        end += 1
    left, right = one[start : len(one) - end], two[start : len(two) - end]
    return max(len(left), len(right)) == 1 or (len(left) == len(right) == 2 and left == right[::-1])


def typing_error_findings(file: str, labels: Sequence[str], rows: Sequence[int]) -> list[Finding]:
    """Returns one finding for all rare labels that are perhaps typing errors; other spellings of one label are not
    repeated."""
    counts = Counter(labels)
    errors = typing_errors(counts)
    if errors:
        alike = {label for _, group in alike_groups(list(counts)) for label in group}
        errors = {label: meant for label, meant in errors.items() if not {label, meant} <= alike}
    if not errors:
        return []
    concerned = [row for row, label in zip(rows, labels, strict=True) if label in errors]
    pairs = [
        f"{visible(label)} ({counted(counts[label], 'row')}) for {visible(meant)} ({counts[meant]:,})"
        for label, meant in errors.items()
    ]
    shown = enumerated([*pairs[:5], f"{len(pairs) - 5:,} more"] if len(pairs) > 5 else pairs)
    message = f"{file}: perhaps mistyped labels: {shown}; are they the same label? If so, correct the rows"
    return [of_rows("mistyped_label", message, concerned)]


def odd_blanks(file: str, labels: Sequence[str]) -> list[Finding]:
    """Finds labels that begin or end with white space, or contain white space other than single spaces."""
    odd = [label for label in dict.fromkeys(labels) if label != " ".join(label.split())]
    if not odd:
        return []
    which = (
        "label begins or ends with a blank, or holds" if len(odd) == 1 else "labels begin or end with a blank, or hold"
    )
    message = (
        f"{file}: {len(odd):,} {which} unusual blanks: {named(odd)}; the model returns them as they are. "
        "Remove the blanks in the file if they are not meant"
    )
    return [Finding("blanks_in_label", message, len(odd))]


@functools.lru_cache(maxsize=1024)
def not_writable(label: str) -> str | None:
    """Returns why a model's label file, with one label per line, cannot contain this label, or None if it can."""
    if not label.strip():
        return "is empty"
    if label.splitlines() != [label]:
        return "contains a line break"
    if "\0" in label:
        return "contains a NUL character"
    if any("\ud800" <= one <= "\udfff" for one in label):
        return "contains half of a character (a lone surrogate)"
    return None
