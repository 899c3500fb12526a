"""Classifies texts with model.tflite, or answers questions with it. Needs the packages in requirements.txt, not textclf.

    python classify.py "a text"                  one or more texts; for pairs, two arguments each: text, second text
    python classify.py < texts.txt               one text per line; the two texts of a pair are separated by a tab
    python classify.py "a question" "a text that has the answer"

From a program: `Model().classify("a text")`, or `Model().answer(question, text)`. A Model belongs to one thread.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

HERE = Path(__file__).resolve().parent

# Of a question answering model: candidates and the most tokens of an answer, and the logit of a position beyond the text.
_CANDIDATES, _LONGEST_ANSWER, _NEVER = 20, 30, -1e9


class Tokenizer:
    """Calling it returns the tokens of a text: (id, first character, character after the last) each."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.kind: str = facts["kind"]
        self.ids = {piece: place for place, piece in enumerate(facts["vocabulary"])}
        self.longest = max(map(len, self.ids))
        if self.kind == "regex":
            pattern = re.sub(r"\\u\{(\w+)\}", lambda found: re.escape(chr(int(found[1], 16))), facts["pattern"])
            self.delimiters = re.compile(pattern, re.ASCII)
        elif self.kind == "bert":
            import tokenizers

            model = tokenizers.models.WordPiece(self.ids, unk_token="[UNK]", max_input_chars_per_word=100)
            self.bert = tokenizers.Tokenizer(model)
            self.bert.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
            self.bert.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
        else:
            alone = "".join(f"{re.escape(chr(first))}-{re.escape(chr(last))}" for first, last in facts["delimiters"])
            self.words = re.compile(f"[{alone}]|[^\t\n\f\r {alone}]+")

    def __call__(self, text: str) -> list[tuple[int, int, int]]:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if self.kind == "bert":
            encoding = self.bert.encode(text, add_special_tokens=False)
            nexts = [*(start for start, _ in encoding.offsets[1:]), len(text)]
            ends = [_with_marks(text, end, until) for (_, end), until in zip(encoding.offsets, nexts, strict=False)]
            return [
                (token, start, end) for token, (start, _), end in zip(encoding.ids, encoding.offsets, ends, strict=True)
            ]
        text = text.partition("\0")[0]
        if self.kind == "regex":
            starts = [0, *(found.end() for found in self.delimiters.finditer(text))]
            ends = [*(found.start() for found in self.delimiters.finditer(text)), len(text)]
            unknown = self.ids["<UNKNOWN>"]
            return [(self.ids.get(text[a:b], unknown), a, b) for a, b in zip(starts, ends, strict=True) if a < b]
        # Only ASCII letters are folded, as on phones.
        folded = re.sub("[A-Z]+", lambda found: found[0].lower(), text)
        return [token for word in self.words.finditer(folded) for token in self._pieces(word[0], word.start())]

    def _pieces(self, word: str, place: int) -> list[tuple[int, int, int]]:
        """Splits a word into the longest entries of the vocabulary."""
        pieces, begin = [], 0
        unknown = [(self.ids["[UNK]"], place, place + len(word))]
        while begin < len(word) and len(word.encode()) <= 100:
            ends = range(min(len(word), begin + self.longest), begin, -1)
            known = (end for end in ends if "##" * (begin > 0) + word[begin:end] in self.ids)
            end = next(known, None)
            if end is None:
                return unknown
            pieces.append((self.ids["##" * (begin > 0) + word[begin:end]], place + begin, place + end))
            begin = end
        return pieces or unknown


class Model:
    """The model in a folder with model.tflite and model_settings.json."""

    def __init__(self, folder: Path = HERE) -> None:
        self.settings = json.loads((folder / "model_settings.json").read_text("utf-8"))
        self.labels: list[str] = self.settings.get("labels", [])
        self.tokenize = Tokenizer(self.settings["tokenizer"])
        regex, ids = self.tokenize.kind == "regex", self.tokenize.ids
        self.pad = ids["<PAD>" if regex else "[PAD]"]
        self.start = [ids[piece] for piece in ("<START>" if regex else "[CLS]",) if piece in ids]
        self.end = [] if regex else [ids["[SEP]"]]
        self.interpreter = Interpreter(model_path=str(folder / "model.tflite"), num_threads=1)
        self.interpreter.allocate_tensors()
        self.length: int = self.settings["maxLength"]

    def classify(self, *texts: str) -> dict[str, Any] | None:
        """Takes one text, or the two of a pair. Returns the labels (none, one or several), whether the text was rejected
        because no probability reaches the bound, and the probability of each label; None for an empty text."""
        if not any(text.strip() for text in texts):
            return None
        tokens = [[token for token, _, _ in self.tokenize(text)] for text in texts]
        windows = [self._run(*row)[0] for row in self._rows(tokens)]
        scores = windows[0]
        if len(windows) > 1:
            scores = self._combined(np.array(windows, np.float64)).astype(np.float32)
        by_label = dict(zip(self.labels, scores.tolist(), strict=True))
        thresholds = self.settings["thresholds"]
        if thresholds is not None:
            chosen = np.flatnonzero(scores >= np.float32(thresholds))
            return {"labels": [self.labels[place] for place in chosen], "rejected": False, "scores": by_label}
        best = int(scores.argmax())
        rejected = not scores[best] >= np.float32(self.settings["rejectBelow"])
        label = self.settings["rejectLabel"] if rejected else self.labels[best]
        return {"labels": [label] if label else [], "rejected": rejected, "scores": by_label}

    def _combined(self, windows: np.ndarray) -> np.ndarray:
        """Returns the probabilities of the mean logits of the windows: their softmax, or the sigmoid of each label."""
        if self.settings["thresholds"] is None:
            return _softmax(np.log(np.maximum(windows, np.finfo(np.float32).tiny)).mean(axis=0))
        windows = np.clip(windows, 2.0**-24, 1 - 2.0**-24)
        logits: np.ndarray = (np.log(windows) - np.log1p(-windows)).mean(axis=0)
        scores: np.ndarray = 1 / (1 + np.exp(-logits))
        return scores

    def answer(self, question: str, context: str) -> dict[str, Any] | None:
        """Returns the answer, its first character and the one after its last in the context, and its probability. The text
        is "" and the places are -1 if the context has no answer. None for an empty question or context."""
        if not question.strip() or not context.strip():
            return None
        settings, tokens = self.settings, self.tokenize(context)
        asked = [token for token, _, _ in self.tokenize(question)][: settings["questionLength"]]
        head = [*self.start, *asked, *self.end]
        parts = _windows(len(tokens), self.settings["maxLength"] - 1 - len(head), settings["stride"])
        # An answer begins in the window that shows most text on both sides of its first token.
        owners = [
            max(
                (min(token - begin, begin + count - 1 - token) + 0.01 * count, -number)
                for number, (begin, count) in enumerate(parts)
                if begin <= token < begin + count
            )
            for token in range(len(tokens))
        ]
        no_answer, found = np.inf, []
        for number, (begin, count) in enumerate(parts):
            ids = [*head, *(token for token, _, _ in tokens[begin : begin + count]), *self.end]
            starts, ends = self._run(ids, len(head))
            starts[len(ids) :] = ends[len(ids) :] = _NEVER
            no_answer = min(no_answer, float(np.float64(starts[0]) + ends[0]))
            first, last = (np.argsort(-logits, kind="stable")[:_CANDIDATES] - len(head) for logits in (starts, ends))
            found += [
                (float(np.float64(starts[a + len(head)]) + ends[b + len(head)]), begin + int(a), begin + int(b))
                for a in first
                if 0 <= a < count and owners[begin + int(a)][1] == -number
                for b in last
                if a <= b < min(count, a + _LONGEST_ANSWER)
            ]
        candidates: dict[str, tuple[float, int, int]] = {}
        for score, a, b in sorted(found, key=lambda one: -one[0]):
            if len(candidates) < _CANDIDATES:
                candidates.setdefault(context[tokens[a][1] : tokens[b][2]], (score, tokens[a][1], tokens[b][2]))
        bound = settings["nullBound"]
        scores = np.array([no_answer - (bound or 0), *(score for score, _, _ in candidates.values())])
        shares = _softmax(scores / settings["temperature"])
        best = next(iter(candidates.items()), None)
        if best is None or (bound is not None and no_answer - best[1][0] > bound):
            return {"text": "", "start": -1, "end": -1, "score": float(shares[0])}
        share = shares[1] if bound is None else max(shares[:2])
        return {"text": best[0], "start": best[1][1], "end": best[1][2], "score": float(share)}

    def _rows(self, tokens: list[list[int]]) -> list[tuple[list[int], int]]:
        """Returns the ids of each row that the model reads, and where its second text begins."""
        settings = self.settings
        room = settings["maxLength"] - len(self.start) - len(tokens) * len(self.end)
        overflow = settings["overflow"]
        if len(tokens) == 2:  # the longer text loses tokens until both fit
            second = min(len(tokens[1]), max(room // 2, room - len(tokens[0])))
            first = [*self.start, *_kept(tokens[0], room - second, overflow), *self.end]
            return [([*first, *_kept(tokens[1], second, overflow), *self.end], len(first))]
        parts, windows = [_kept(tokens[0], room, overflow)], settings["windows"]
        if windows:
            readable = room + (windows["most"] - 1) * min(room, windows["stride"])
            own = tokens[0][:readable]
            parts = [own[begin : begin + count] for begin, count in _windows(len(own), room, windows["stride"])]
        return [([*self.start, *part, *self.end], settings["maxLength"]) for part in parts]

    def _run(self, ids: list[int], second: int) -> list[np.ndarray]:
        """Runs the model on a row whose second text begins at `second`, and returns its outputs."""
        settings = self.settings
        length = settings["maxLength"]
        if settings["resizable"]:  # a [PAD] follows the row if there is room
            length = min(length, -(-(len(ids) + 1) // settings["lengthStep"]) * settings["lengthStep"])
        inputs, outputs = self.interpreter.get_input_details(), self.interpreter.get_output_details()
        if length != self.length:
            for tensor in inputs:
                self.interpreter.resize_tensor_input(tensor["index"], [1, length])
            self.interpreter.allocate_tensors()
            self.length = length
        place = np.arange(length)
        padded = np.full(length, self.pad)
        padded[: len(ids)] = ids
        values = {"mask": place < len(ids), "segment_ids": (place >= second) & (place < len(ids))}
        for tensor, name in zip(inputs, settings["inputs"], strict=True):
            self.interpreter.set_tensor(tensor["index"], values.get(name, padded).astype(np.int32)[None])
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(outputs[place]["index"])[0] for place in settings["outputs"]]


def _with_marks(text: str, end: int, until: int) -> int:
    """Returns the end of a letter with the combining marks that the tokenizer stripped from it."""
    while end < until and unicodedata.category(text[end]).startswith("M"):
        end += 1
    return end


def _kept(tokens: list[int], count: int, overflow: str) -> list[int]:
    """Returns at most `count` of the tokens."""
    if len(tokens) <= count:
        return tokens
    head = {"head": count, "tail": 0, "head_tail": count // 4}[overflow]
    return tokens[:head] + tokens[len(tokens) - (count - head) :]


def _windows(tokens: int, room: int, stride: int) -> list[tuple[int, int]]:
    """Returns the first token and the number of tokens of each window."""
    parts = [(0, min(tokens, room))]
    while sum(parts[-1]) < tokens:
        begin = parts[-1][0] + min(room, stride)
        parts.append((begin, min(tokens - begin, room)))
    return parts


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers: np.ndarray = np.exp(logits - logits.max())
    shares: np.ndarray = powers / powers.sum()
    return shares


def main() -> None:
    model = Model()
    if model.settings["task"] == "answers":
        print(json.dumps(model.answer(*sys.argv[1:3]), ensure_ascii=False))
        return
    width = len(model.settings["columns"])
    given = sys.argv[1:]
    rows = [given[place : place + width] for place in range(0, len(given), width)]
    for row in rows or (line.rstrip("\n").split("\t")[:width] for line in sys.stdin):
        result = model.classify(*row) or {"labels": [], "scores": {}}
        score = max(result["scores"].values(), default=0)
        print("|".join(result["labels"]), f"{score:.4f}", *row, sep="\t")


if __name__ == "__main__":
    main()
