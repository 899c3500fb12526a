"""Takes the sampled rows of a table and returns the columns of the texts and of the label.

What a column contains decides. Between columns with the same kind of content, usual names decide; if these do not, a
person has to choose.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from textclf.data.column_kinds import Column, is_date, is_number
from textclf.data.findings.finding import counted, enumerated, visible
from textclf.data.findings.label_lists import flag_columns_message, holds_flags_only
from textclf.data.table_sample import TableSample
from textclf.data.tables.column_names import matching_columns
from textclf.errors import ArgumentError, DataError
from textclf.runs.proposal.several_labels import described, flags_among, separator_in, with_lists_as_labels
from textclf.terminal.door import command_line

_TEXT_NAMES = frozenset(
    "text texts message messages review reviews sentence body content comment comments description utterance tweet post "
    "feedback request query question transcript document article passage "
    "nachricht kommentar beschreibung inhalt satz anfrage frage texte commentaire contenu phrase avis texto mensaje "
    "comentario contenido frase testo messaggio commento contenuto mensagem conteúdo tekst bericht wiadomość текст "
    "сообщение отзыв 文本 内容 评论 テキスト 本文 텍스트 내용".split()
)

# The better names first: of `label` and `category`, `label` is meant.
_LABEL_NAMES = (
    frozenset("label labels class target y etikett étiquette etiqueta etichetta метка класс 标签 ラベル 라벨".split()),
    frozenset(
        "category categories classes intent sentiment topic queue mood emotion tag type genre subject_area department "
        "rating stars polarity stance verdict outcome kategorie klasse thema stimmung absicht bewertung abteilung "
        "catégorie classe sujet sentimiento categoría categoria clase tema sentimento tipo classificação kategoria "
        "категория тема тональность 类别 分类 カテゴリ 카테고리".split()
    ),
)

# Two texts of which a model reads both: the names of the first and of the second column.
_PAIRS = (
    ("question", "answer faq faq_title title passage context document sentence paragraph response question2"),
    ("query", "document passage title answer result product"),
    ("premise", "hypothesis"),
    ("claim", "evidence"),
    ("context", "response"),
    ("source", "target_text paraphrase"),
)

_NUMBERED_PAIR = re.compile(r"(.*?)[ _-]?([12ab])", re.IGNORECASE)

# One text is the longer one if it has this many times the words of any other.
_CLEARLY_LONGER = 3.0

# Few values that each repeat often look like labels even if other columns repeat, too.
_ROWS_OF_CLEAR_LABEL, _MOST_CLEAR_LABELS = 5.0, 50

_WORDS_OF_A_NAME = 4

_EXAMPLES = 3

_HINT = (
    " If there are more columns, but their names are further below in the file or an unusual character separates them, name "
    "the columns with --text and --label"
)

_WHY_NOT = {
    "id": "identifiers",
    "date": "dates",
    "number": "numbers",
    "link": "links",
    "constant": "one value in all rows",
    "empty": "empty",
    "other": "single words that hardly repeat",
    "text": "texts",
    "label": "few values that repeat",
}


@dataclass(frozen=True)
class Question:
    """A choice that the content of a table leaves open: which of the `candidates` is the text or the label (`role`).

    `table` is the table's path for messages, `option` the option of `textclf new` that answers the question.
    """

    table: str
    role: str
    option: str
    candidates: tuple[Column, ...]

    def as_text(self) -> str:
        """Lines for a terminal, with a number before each candidate."""
        lines = [f"{self.table}: {len(self.candidates)} columns could be the {self.role}:"]
        width = max(len(visible(column.name)) for column in self.candidates)
        for number, column in enumerate(self.candidates, start=1):
            lines.append(f"  {number}  {visible(column.name):<{width}}  {contents(column)}")
        return "\n".join(lines)


Choose = Callable[[Question], str]
"""Answers a question with the name of one of its candidates."""


@dataclass(frozen=True)
class Columns:
    """The columns of a recipe, the columns that were left out, and those that could have been the label, too."""

    text: tuple[Column, ...]
    label: Column
    others: tuple[Column, ...]
    doubts: tuple[str, ...]

    separator: str | None = None
    """What separates several labels in the cells of the label column; None if each cell has one label."""

    flags: tuple[Column, ...] = ()
    """The columns of 0 and 1 that are the labels, the first of which is `label`; empty if the label is in one column."""

    lists: bool = False
    """Whether each cell of the label column is a list of labels."""

    @property
    def label_names(self) -> list[str]:
        """The names of the columns with labels."""
        return [column.name for column in self.flags or (self.label,)]

    @property
    def has_several_labels(self) -> bool:
        return bool(self.flags) or self.lists or self.separator is not None


def choose_columns(
    sample: TableSample,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    choose: Choose | None = None,
) -> Columns:
    """Returns the columns of a recipe. `text`, `text_pair` and `label` name columns that are known already.

    `choose` is asked when several columns suit. Without it, DataError names them. Raises DataError also for a table
    without a column of texts or labels, or without a header, and ArgumentError for a name that the table does not have.
    """
    columns = [described(sample, index) for index in range(len(sample.columns))]
    columns = with_lists_as_labels(sample, columns, _LABEL_NAMES[0] | _LABEL_NAMES[1])
    given = {option: _named(sample, columns, name, option) for option, name in
             (("--text", text), ("--text-pair", text_pair), ("--label", label)) if name is not None}  # fmt: skip
    if len({column.index for column in given.values()}) < len(given):
        raise ArgumentError(f"{enumerated(list(given))} name the same column; name a different column for each")
    _check_header(sample, columns)
    chosen_label = given.get("--label")
    taken = [column.index for column in given.values()]
    free = [column for column in columns if column.index not in taken and column.name.strip()]
    doubts: list[str] = []
    texts = _choose_texts(sample, free, given.get("--text"), given.get("--text-pair"), choose)
    flags: tuple[Column, ...] = ()
    if chosen_label is None:
        candidates = [column for column in free if column not in texts]
        flags = _chosen_flags(candidates)
        chosen_label = flags[0] if flags else _choose_label(sample, candidates, columns, choose, doubts)
    chosen = (*texts, *(flags or (chosen_label,)))
    for column in chosen:
        _named(sample, columns, column.name, "text" if column in texts else "label")
    others = tuple(one for one in columns if one not in chosen)
    lists = not flags and chosen_label.index in sample.lists
    separator = None if flags or lists or chosen_label.is_number else separator_in(sample, chosen_label)
    return Columns(texts, chosen_label, others, tuple(doubts), separator, flags, lists)


def contents(column: Column) -> str:
    """Describes what a column contains, with examples."""
    if column.kind in ("label", "text"):
        what = counted(column.distinct, "value") if column.kind == "label" else f"{column.words:.0f} words on average"
        examples = ", ".join(visible(value).strip("`") for value in column.common[:_EXAMPLES])
        return f"{what}: {examples}{', …' if column.distinct > _EXAMPLES else ''}"
    return _WHY_NOT[column.kind]


def _named(sample: TableSample, columns: Sequence[Column], name: str, option: str) -> Column:
    found = matching_columns(name, sample.columns)
    if len(found) == 1:
        return columns[found[0]]
    shown = enumerated([visible(column.name) for column in columns])
    problem = "there is no column" if not found else f"{len(found)} columns are called"
    remedy = "name one of these" if not found else "rename all but one"
    raise ArgumentError(f"{sample.shown}: {problem} {visible(name)} ({option}); the columns are {shown}; {remedy}")


# --- The header ------------------------------------------------------------------------------------------------------
def _check_header(sample: TableSample, columns: Sequence[Column]) -> None:
    """Raises DataError if the first row looks like a row of data."""
    sign = next((sign for column in columns if (sign := _sign_of_data(column, columns))), None)
    if sign is None:
        return
    names = _names_for(columns)
    line = sample.delimiter.join(names)
    raise DataError(
        f"{sample.shown}: the first row looks like data, not like the names of the columns ({sign}). Without a header this "
        f"row would be lost. Insert a line with names at the top of the file, for example `{line}`, then run the command "
        "again"
    )


def _sign_of_data(column: Column, columns: Sequence[Column]) -> str | None:
    name = column.name.strip()
    if (column.is_number and is_number(name)) or (column.kind == "date" and is_date(name)):
        kind = "a number" if column.is_number else "a date"
        return f"{visible(name)} is {kind} like the values below it"
    if column.kind == "label" and column.holds(name) and name.casefold() not in _LABEL_NAMES[0] | _LABEL_NAMES[1]:
        texts = [other for other in columns if other.kind == "text"]
        if not any(_is_name(text.name) for text in texts):
            return f"{visible(name)} is also a value of its column"
    return None


def _is_name(name: str) -> bool:
    """Returns whether this may be the name of a column of texts and is not such a text."""
    return _plain(name) in _TEXT_NAMES or len(name.split()) < _WORDS_OF_A_NAME


def _names_for(columns: Sequence[Column]) -> list[str]:
    names: list[str] = []
    for number, column in enumerate(columns, start=1):
        usual = {"text": "text", "label": "label", "id": "id", "date": "date"}.get(column.kind, f"column{number}")
        names.append(usual if usual not in names else f"{usual}{number}")
    return names


# --- Texts -----------------------------------------------------------------------------------------------------------
def _choose_texts(
    sample: TableSample, free: Sequence[Column], first: Column | None, second: Column | None, choose: Choose | None
) -> tuple[Column, ...]:
    candidates = [column for column in free if column.kind == "text"]
    if first is not None:
        return (first,) if second is None else (first, second)
    if second is None and (pair := _pair(candidates)):
        return pair
    long = [column for column in candidates if not column.is_short_text]
    if not candidates:  # single words, or the same few texts again and again
        candidates = [one for one in free if _plain(one.name) in _TEXT_NAMES and one.kind in ("other", "label", "id")]
    found = _text(sample, long or candidates, free, choose)
    return (found,) if second is None else (found, second)


def _pair(candidates: Sequence[Column]) -> tuple[Column, Column] | None:
    """Returns two columns whose names say that a model must read both, if there are exactly two."""
    pairs = []
    for one in candidates:
        for other in candidates:
            if one is other:
                continue
            first, second = _plain(one.name), _plain(other.name)
            numbered, next_one = _NUMBERED_PAIR.fullmatch(first), _NUMBERED_PAIR.fullmatch(second)
            if (
                numbered and next_one and numbered[1] == next_one[1] and numbered[2] + next_one[2] in ("12", "ab")
            ) or any(first == name and second in seconds.split() for name, seconds in _PAIRS):
                pairs.append((one, other))
    return pairs[0] if len(pairs) == 1 else None


def _text(sample: TableSample, candidates: Sequence[Column], free: Sequence[Column], choose: Choose | None) -> Column:
    if not candidates:
        raise DataError(
            f"{sample.shown}: no column with texts of several words was detected.{_listed(free)}\n"
            f"Name the column with --text COLUMN.{_HINT if len(sample.columns) == 1 else ''}"
        )
    if len(candidates) == 1:
        return candidates[0]
    usual = [column for column in candidates if _plain(column.name) in _TEXT_NAMES]
    if len(usual) == 1:
        return usual[0]
    longest, *others = sorted(candidates, key=lambda column: -column.words)
    if not usual and longest.words >= _CLEARLY_LONGER * others[0].words:
        return longest
    return _ask(
        Question(sample.shown, "text", "--text", tuple(candidates)), choose, " (--text-pair adds a second text)"
    )


# --- The label -------------------------------------------------------------------------------------------------------
def _choose_label(
    sample: TableSample,
    candidates: Sequence[Column],
    columns: Sequence[Column],
    choose: Choose | None,
    doubts: list[str],
) -> Column:
    labels = _without_codes(sample, [column for column in candidates if column.kind == "label"])
    if not labels:
        raise DataError(_no_label_message(sample, candidates, columns))
    best = _best_named(labels)
    if not best:
        # Numbers may be counts or grades; 0 and 1 are mostly a label.
        likely = [column for column in labels if not column.is_number or column.distinct == 2] or labels
        clear = [column for column in likely if _is_clear(column)]
        best = clear if len(clear) == 1 else likely
    if len(best) > 1:
        flags = [column.name for column in best if holds_flags_only(column.common)]
        more = f". But {flag_columns_message(flags)}" if len(flags) > 1 else ""
        return _ask(Question(sample.shown, "label", "--label", tuple(best)), choose, more)
    doubts.extend(f"{visible(column.name)} ({contents(column)})" for column in labels if column is not best[0])
    return best[0]


def _chosen_flags(candidates: Sequence[Column]) -> tuple[Column, ...]:
    """Returns the columns of 0 and 1 that are the labels, unless another column has the name of a label."""
    flags = flags_among(candidates)
    named = _best_named([column for column in candidates if column.kind == "label" and column not in flags])
    return () if named else flags


def _best_named(labels: Sequence[Column]) -> list[Column]:
    """Returns the columns whose names are the best ones for a label."""
    for names in _LABEL_NAMES:
        if found := [column for column in labels if _plain(column.name) in names]:
            return found
    all_names = _LABEL_NAMES[0] | _LABEL_NAMES[1]
    return [column for column in labels if set(_plain(column.name).split("_")) & all_names]


def _is_clear(column: Column) -> bool:
    return column.distinct <= _MOST_CLEAR_LABELS and column.rows >= _ROWS_OF_CLEAR_LABEL * column.distinct


def _without_codes(sample: TableSample, labels: Sequence[Column]) -> list[Column]:
    """Leaves out columns that repeat another one in other words: of `0` and `negative`, the words stay."""
    kept: list[Column] = []
    for column in sorted(labels, key=lambda column: (column.is_number, _plain(column.name) not in _LABEL_NAMES[0])):
        if not any(_say_the_same(sample, column, other) for other in kept):
            kept.append(column)
    return sorted(kept, key=lambda column: column.index)


def _say_the_same(sample: TableSample, one: Column, other: Column) -> bool:
    if one.distinct != other.distinct:
        return False
    pairs = {(row[one.index].strip(), row[other.index].strip()) for row in sample.rows}
    return len(pairs) == one.distinct


def _no_label_message(sample: TableSample, candidates: Sequence[Column], columns: Sequence[Column]) -> str:
    constant = [column for column in candidates if column.kind == "constant"]
    if constant and not any(column.kind in ("other", "number") for column in candidates):
        worst = next(iter(_best_named(constant)), constant[0])
        return (
            f"{sample.shown}: the column {visible(worst.name)} has a single value, {visible(worst.common[0])}, in "
            f"{counted(worst.rows, 'row')}; a classifier needs two labels or more. Add rows with another label"
        )
    if len(columns) == 1:
        return (
            f"{sample.shown}: there is one column only, {visible(columns[0].name)}; a classifier needs a column with texts and "
            f"a column with labels. Add the labels, then run the command again.{_HINT}"
        )
    return (
        f"{sample.shown}: no column looks like a label, a few values that repeat.{_listed(candidates)}\n"
        "Name the column with --label COLUMN, or add a column with the label of each row"
    )


def _listed(columns: Sequence[Column]) -> str:
    return "".join(f"\n  {visible(column.name)}: {contents(column)}" for column in columns[:20])


# --- Asking ----------------------------------------------------------------------------------------------------------
def _ask(question: Question, choose: Choose | None, more: str = "") -> Column:
    if choose is None:
        first = command_line([question.candidates[0].name])
        raise DataError(
            f"{question.as_text()}\nName the right one with {question.option}, for example "
            f"{question.option} {first}{more}"
        )
    name = choose(question)
    chosen = next((column for column in question.candidates if column.name == name), None)
    if chosen is None:
        names = enumerated([visible(column.name) for column in question.candidates])
        raise ArgumentError(f"choose returned {visible(str(name))}; return one of {names}")
    return chosen


def _plain(name: str) -> str:
    return re.sub(r"[\s.-]+", "_", name.strip()).casefold()
