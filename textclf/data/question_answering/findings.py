"""Findings about questions, contexts and answers. The numbers in them are rows of a table or questions of a SQuAD file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from textclf.data.findings.finding import ROWS_KEPT, Finding, Severity, counted, percent, visible
from textclf.data.findings.missing_values import missing_texts
from textclf.data.findings.of_examples import findings_of_notes
from textclf.data.findings.text_faults import text_findings
from textclf.data.question_answering.questions import Answer, Question, QuestionFile, QuestionSplit

# With fewer questions, one of them changes the result by more than 2 percentage points.
_FEW_QUESTIONS = 50

_FEW_CONTEXTS = 10

_MOST_UNANSWERABLE = 0.8

_LETTERS_OF_WORDS = "\u0e00"
"""Scripts above it, such as Thai and Chinese, have no blanks between words."""

_ROWS_AT_END = re.compile(r"\(rows? [\d,]+[^()]*\)$")


def findings_of_questions(file: QuestionFile) -> list[Finding]:
    """Returns findings about the questions of one file."""
    findings = findings_of_notes(file.notes)
    findings += _findings_of_oddities(file)
    findings += _findings_of_names(file)
    findings += _findings_of_repetitions(file)
    findings += _findings_of_words(file)
    findings += _findings_of_answers(file)
    return findings + _findings_of_texts(file)


def of_questions(
    file: QuestionFile, kind: str, message: str, numbers: Sequence[int], severity: Severity = "warning"
) -> Finding:
    """Returns a finding about these questions; the message begins with the file and ends with their numbers."""
    text = f"{file.shown}: {message} ({file.listed(numbers)})"
    return Finding(kind, text, len(numbers), tuple(numbers[:ROWS_KEPT]), severity)


def in_units(file: QuestionFile, findings: Iterable[Finding]) -> list[Finding]:
    """Returns findings of functions for tables, which list rows, with what the numbers of this file count."""
    return [_in_units(file, one) for one in findings]


def _in_units(file: QuestionFile, finding: Finding) -> Finding:
    if not finding.rows:
        return finding
    place = f"({file.listed(finding.rows, finding.count)})"
    return replace(finding, message=_ROWS_AT_END.sub(lambda _: place, finding.message))


ODDITIES: dict[str, tuple[Severity, str]] = {
    "empty_row": ("note", "{rows} without any text left out"),
    "empty_question": ("note", "{questions} without the text of a question left out"),
    "empty_context": ("note", "{questions} with an empty context left out"),
    "empty_answer": ("note", "{questions} with an answer that has no text; this answer is left out"),
    "contradictory_question": (
        "warning",
        "{questions} left out that are marked as answerable without an answer, or as not answerable with one; correct them",
    ),
    "answer_missing": (
        "warning",
        "{questions} with an answer that is not in the context; this answer is left out. Write it as the context does",
    ),
    "answer_ambiguous": (
        "warning",
        "{questions} with an answer that is not at its offset but several times in the context; this answer is left out. "
        "Correct its offset",
    ),
    "answer_moved": (
        "warning",
        "{questions} with an answer that is not at its offset; it is used from where it is in the context: the only such "
        "place, or one within 10 characters. Correct the offsets",
    ),
    "answer_utf16": (
        "warning",
        "{questions} with an offset that counts UTF-16 units, as JavaScript and Java do, instead of characters (code "
        "points); the answer is used from there. Convert the offsets",
    ),
    "answer_spaces": (
        "note",
        "{questions} with an answer that is in the context with other white space; the context's own is used",
    ),
    "no_answer_left": ("warning", "{questions} left out, because none of the answers can be used"),
    "repeated_row": ("note", "{rows} with the same context, question and answer as an earlier row; used once"),
}


def _findings_of_oddities(file: QuestionFile) -> list[Finding]:
    findings = []
    for kind, (severity, text) in ODDITIES.items():
        if numbers := file.odd.get(kind):
            message = text.format(rows=counted(len(numbers), "row"), questions=counted(len(numbers), "question"))
            findings.append(of_questions(file, kind, message, numbers, severity))
    return findings


def _findings_of_names(file: QuestionFile) -> list[Finding]:
    names: dict[str, int] = {}
    repeated = [one.number for one in file.questions if names.setdefault(one.id, one.number) != one.number]
    if not repeated:
        return []
    message = f"{counted(len(repeated), 'question')} with the id of an earlier one; give each an id of its own"
    return [of_questions(file, "repeated_id", message, repeated)]


def alike(text: str) -> str:
    """Returns what is equal for texts that differ in capitals and white space only."""
    return " ".join(text.split()).casefold()


def _findings_of_repetitions(file: QuestionFile) -> list[Finding]:
    contexts = _alike_contexts(file.questions)
    groups: dict[tuple[str, str], list[Question]] = {}
    for one in file.questions:
        groups.setdefault((alike(one.question), contexts[one.context]), []).append(one)
    same: list[int] = []
    different: list[int] = []
    for first, *later in groups.values():
        known = _texts_of(first.answers)
        for one in later:
            own = _texts_of(one.answers)
            (same if own == known or own & known else different).append(one.number)
    findings = []
    if same:
        message = f"{counted(len(same), 'question')} repeated about the same context with the same answer, kept"
        findings.append(of_questions(file, "duplicate", message, sorted(same), "note"))
    if different:
        message = (
            f"{counted(len(different), 'question')} repeated about the same context with another answer; if both are right, "
            "write them as answers of one question, else correct one"
        )
        findings.append(of_questions(file, "contradiction", message, sorted(different)))
    return findings


def _alike_contexts(questions: Iterable[Question]) -> dict[str, str]:
    return {context: alike(context) for context in dict.fromkeys(one.context for one in questions)}


def _texts_of(answers: Iterable[Answer]) -> set[str]:
    return {alike(answer.text) for answer in answers}


def _findings_of_words(file: QuestionFile) -> list[Finding]:
    found = [(one, answer) for one in file.questions for answer in one.answers if _splits_a_word(one.context, answer)]
    if not found:
        return []
    one, answer = found[0]
    begin, end = max(0, answer.start - 10), answer.end + 10
    example = f"{visible(answer.text[-40:])} in {visible(one.context[max(begin, answer.end - 40) : end])}"
    numbers = list(dict.fromkeys(one.number for one, _ in found))
    message = (
        f"{counted(len(numbers), 'question')} with an answer that begins or ends inside a word, for example {example}; "
        "the model answers with whole tokens. Correct the answers"
    )
    return [of_questions(file, "answer_inside_word", message, numbers)]


def _splits_a_word(context: str, answer: Answer) -> bool:
    return any(
        0 < edge < len(context)
        and all(one.isalnum() and one < _LETTERS_OF_WORDS for one in context[edge - 1 : edge + 1])
        for edge in (answer.start, answer.end)
    )


def _findings_of_answers(file: QuestionFile) -> list[Finding]:
    findings, questions = [], file.questions
    without = [one.number for one in questions if not one.answers]
    share = len(without) / max(len(questions), 1)
    if without:
        message = f"{len(without):,} of {counted(len(questions), 'question')} ({percent(share)}) that the context does not answer"
        if share > _MOST_UNANSWERABLE:
            message += "; a model that never answers would be right this often. Add questions with answers"
            findings.append(of_questions(file, "mostly_not_answerable", message, without))
        else:
            findings.append(of_questions(file, "not_answerable", message, without, "note"))
    elif file.name == "train":
        message = (
            f"{file.shown}: every question has an answer in its context, so the model learns to answer always. To learn when "
            "not to, add questions that their context does not answer"
        )
        findings.append(Finding("always_answerable", message, len(questions), severity="note"))
    several = [one.number for one in questions if len(set(one.answers)) > 1]
    if several and file.name == "train":
        message = (
            f"{counted(len(several), 'question')} with several answers; the first is learned, all of them are right"
        )
        findings.append(of_questions(file, "several_answers", message, several, "note"))
    return findings


def _findings_of_texts(file: QuestionFile) -> list[Finding]:
    """Reports missing values, markup and mojibake; a context is looked at once, with the number of its first question."""
    contexts: dict[str, int] = {}
    for one in file.questions:
        contexts.setdefault(one.context, one.number)
    texts = [(context,) for context in contexts] + [(one.question,) for one in file.questions]
    numbers = [*contexts.values(), *(one.number for one in file.questions)]
    findings = [*missing_texts(file.shown, texts, numbers), *text_findings(file.shown, texts, numbers)]
    return in_units(file, findings)


def findings_of_leaks(files: Mapping[str, QuestionFile]) -> list[Finding]:
    """Reports contexts of one file that are in another file: results measured on them are too good."""
    findings = []
    contexts = {name: _alike_contexts(file.questions) for name, file in files.items()}
    for measured, seen in (("validation", "train"), ("test", "train"), ("test", "validation")):
        if measured not in files or seen not in files:
            continue
        file, known, own = files[measured], set(contexts[seen].values()), contexts[measured]
        shared = [one.number for one in file.questions if own[one.context] in known]
        if shared:
            repeated = len(set(own.values()) & known)
            message = (
                f"the contexts of {len(shared):,} of {counted(len(file.questions), 'question')} "
                f"({percent(len(shared) / len(file.questions))}; {counted(repeated, 'context')}) are in {files[seen].shown} "
                "too, so results on them are too good; remove them from one of the files"
            )
            findings.append(of_questions(file, "leak", message, shared))
    return findings


def findings_of_splits(splits: Mapping[str, QuestionSplit]) -> list[Finding]:
    """Reports what makes the results of a split unreliable."""
    findings = []
    learns_none = any(not own for own in splits["train"].answers)
    for name in ("validation", "test"):
        if name not in splits:
            continue
        split = splits[name]
        use = "the best epoch and the no-answer bound" if name == "validation" else "the results"
        contexts = len(set(split.contexts))
        if len(split.rows) < _FEW_QUESTIONS or contexts < _FEW_CONTEXTS:
            message = (
                f"{name}: {counted(len(split.rows), 'question')} about {counted(contexts, 'context')} only, so {use} depend "
                f"on chance; add questions, or set dataset.{name} to more of them ({_FEW_QUESTIONS} or more about "
                f"{_FEW_CONTEXTS} contexts or more)"
            )
            findings.append(Finding("few_rows", message, len(split.rows)))
        if learns_none and all(split.answers):
            message = (
                f"{name}: every question has an answer, but not in the training data, so it is not measured how well the "
                "model leaves questions unanswered; add such questions"
            )
            findings.append(Finding(f"{name}_always_answerable", message, len(split.rows)))
    if "test" not in splits:
        message = (
            "No test data. Results are measured on the validation questions, which also choose the best epoch, so they are "
            "slightly optimistic. Set dataset.test to a file or to a fraction such as 0.2"
        )
        findings.append(Finding("no_test", message, 0, severity="note"))
    return findings
