"""Reads questions from a SQuAD file, version 1.1 or 2.0: `data[].paragraphs[].{context, qas[].{id, question,
is_impossible?, answers[].{text, answer_start}}}`.

Other keys, such as `title` and `plausible_answers`, are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from textclf.data.findings.finding import enumerated, visible
from textclf.data.findings.missing_values import written_by
from textclf.data.question_answering.answers import find_answer
from textclf.data.question_answering.json_text import RepeatedKey, read_json
from textclf.data.question_answering.questions import Answer, Question, QuestionFile
from textclf.data.tables.files import open_input
from textclf.data.tables.formats.records import no_text_in
from textclf.recipe.values import quoted

_MOST_PROBLEMS = 20

_MOST_OFFSET = 1 << 31


def read_squad(file: QuestionFile, encoding: str = "utf-8") -> list[str]:
    """Fills `file` with the questions of its path, in the order of the file, numbered from 1. Returns the problems.

    A question without a question, without a context, or whose answers are all not in the context is left out and noted in
    `file.odd`, as is every answer that is used from another place than its offset. Raises DataError for a file that is
    not JSON.
    """
    with open_input(file.file, file.shown) as opened:
        root = read_json(file.shown, opened.stream, encoding)
    reader = _Reader(file)
    reader.read(root)
    if not file.questions and not reader.problems and not file.odd:
        reader.problem("data", "has no question; add paragraphs with a `context` and `qas`")
    return reader.shown_problems()


class _Reader:
    def __init__(self, file: QuestionFile) -> None:
        self.file = file
        self.problems: list[str] = []
        self._more = 0
        self._number = 0

    def problem(self, path: str, message: str) -> None:
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(f"{self.file.shown}: {path} {message}")
        else:
            self._more += 1

    def shown_problems(self) -> list[str]:
        more = [f"{self.file.shown}: … and {self._more:,} more problems of this kind"] if self._more else []
        return [*self.problems, *more]

    def read(self, root: Any) -> None:
        if not isinstance(root, dict) or "data" not in root:
            self.problem("the file", f"is not in the format of SQuAD: {_shape(root)}")
            return
        for path, article in self._items(root, "data", "data"):
            for place, paragraph in self._items(article, "paragraphs", f"{path}.paragraphs"):
                context = self._text(paragraph, "context", place)
                for inner, question in self._items(paragraph, "qas", f"{place}.qas"):
                    self._number += 1
                    self._question(question, context, inner)

    def _items(self, holder: dict[str, Any], key: str, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields the objects of a list with their paths."""
        values = holder.get(key)
        if not isinstance(values, list):
            outer = path.removesuffix(f".{key}")
            if key not in holder:
                self.problem(outer, f"has no key `{key}`, {_keys(holder)}; add it as a list of objects")
            else:
                self.problem(path, f"is {_kind(values)}, expected a list of objects")
            return
        for index, value in enumerate(values):
            if not isinstance(value, dict):
                self.problem(f"{path}[{index}]", f"is {_kind(value)}, expected an object")
                continue
            if isinstance(value, RepeatedKey):
                self.problem(f"{path}[{index}]", f"has the key {visible(value.key)} twice; keep one of them")
            yield f"{path}[{index}]", value

    def _text(self, holder: dict[str, Any], key: str, path: str) -> str | None:
        value = holder.get(key)
        if isinstance(value, str):
            return value if self._is_whole(value, f"{path}.{key}") else None
        if key in holder:
            self.problem(f"{path}.{key}", f"is {_kind(value)}, expected text")
        else:
            self.problem(path, f"has no key `{key}`, {_keys(holder)}; add it with a text")
        return None

    def _is_whole(self, text: str, path: str) -> bool:
        if (what := no_text_in(text)) is None:
            return True
        self.problem(path, f"holds {what}; write the text again")
        return False

    def _question(self, values: dict[str, Any], context: str | None, path: str) -> None:
        text, name = self._text(values, "question", path), self._name(values, path)
        impossible = values.get("is_impossible")
        if impossible is not None and not isinstance(impossible, bool):
            self.problem(f"{path}.is_impossible", f"is {_kind(impossible)}, expected true or false")
            return
        given = self._answers(values, path, impossible)
        if text is None or context is None or given is None:
            return
        note = self.file.note
        if not text.strip():
            note("empty_question", self._number)
        elif not context.strip():
            note("empty_context", self._number)
        elif impossible is not None and impossible == bool(given):
            note("contradictory_question", self._number)
        elif (answers := self._found(context, given, path)) is not None:
            self.file.questions.append(Question(name, text, context, answers, self._number))

    def _name(self, values: dict[str, Any], path: str) -> str:
        name = values.get("id", self._number)
        if isinstance(name, str | int) and not isinstance(name, bool):
            self._is_whole(str(name), f"{path}.id")
            return str(name)
        self.problem(f"{path}.id", f"is {_kind(name)}, expected text or a whole number")
        return ""

    def _answers(
        self, values: dict[str, Any], path: str, impossible: bool | None
    ) -> list[tuple[str, int | None]] | None:
        if "answers" not in values:
            if impossible:
                return []
            self.problem(
                path,
                "has no key `answers`; add a list of answers or, for a question that the context does not answer, "
                '`"answers": [], "is_impossible": true`',
            )
            return None
        before, answers = len(self.problems) + self._more, []
        for inner, answer in self._items(values, "answers", f"{path}.answers"):
            text, start = self._text(answer, "text", inner), answer.get("answer_start")
            is_number = isinstance(start, int) and not isinstance(start, bool)
            if start is not None and not (is_number and abs(start) < _MOST_OFFSET):
                self.problem(
                    f"{inner}.answer_start", f"is {_kind(start)}, expected a whole number of characters, or no such key"
                )
            elif text is not None:
                answers.append((text, start))
        return answers if len(self.problems) + self._more == before else None

    def _found(self, context: str, given: list[tuple[str, int | None]], path: str) -> tuple[Answer, ...] | None:
        """Returns the answers with their places; None if there were some and none can be used."""
        answers: list[Answer] = []
        for index, (text, start) in enumerate(given):
            if not text.strip():
                self.file.note("empty_answer", self._number)
                continue
            found = find_answer(context, text, start)
            if found.answer is not None:
                answers.append(found.answer)
            elif start is None:
                self.problem(f"{path}.answers[{index}]", not_found_message(text, found.starts, "`answer_start`"))
            if found.place != "exact" and (start is not None or found.answer is not None):
                self.file.note(f"answer_{found.place}", self._number)
        if given and not answers:
            self.file.note("no_answer_left", self._number)
            return None
        return tuple(answers)


def not_found_message(text: str, starts: list[int], key: str) -> str:
    """Says why an answer without an offset cannot be used, and what to do. The text follows its place."""
    if not starts and (program := written_by(text)):
        return (
            f"has the answer {visible(text)}, which is not in its context; {program.partition(',')[0]} write it for a missing "
            "value: leave the answer empty if the context does not answer the question"
        )
    if not starts:
        return f"has the answer {visible(text)}, which is not in its context; write it as the context does"
    places = enumerated([f"{start:,}" for start in starts[:3]] + ([f"{len(starts) - 3:,} more"] if starts[3:] else []))
    return (
        f"has the answer {visible(text)}, which is in its context {len(starts):,} times (at characters {places}, counted "
        f"from 0); add {key} to say which is meant"
    )


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return f"an object ({_keys(value)})"
    return f"{'the text' if isinstance(value, str) else 'the number'} {quoted(value)}"


def _keys(holder: dict[str, Any]) -> str:
    names = [visible(key) for key in list(holder)[:6]]
    return f"only {enumerated(names)}{' and others' if len(holder) > 6 else ''}" if names else "it is empty"


def _shape(root: Any) -> str:
    wanted = "expected an object with the key `data`, a list of articles with `paragraphs`"
    if isinstance(root, list) and root and isinstance(root[0], dict):
        return (
            f"it is a list of objects with the keys {_keys(root[0]).removeprefix('only ')}, {wanted}. If each object is a row of "
            "a table, rename the file so that its name ends in .jsonl"
        )
    if isinstance(root, list):
        return f"it is a list, {wanted}; write it like that, or as a table with the columns context, question, answer"
    return f"it is {_kind(root)}, {wanted}"
