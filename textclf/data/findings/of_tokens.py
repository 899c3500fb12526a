"""Findings about the tokens of the training rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from textclf.data.examples import Dataset, Split
from textclf.data.findings.finding import Finding, counted, named, of_rows, percent
from textclf.data.findings.of_lengths import length_findings
from textclf.data.findings.script_fit import fit_findings
from textclf.data.tables.table import shown_path
from textclf.data.tokens.encoded import TextTokenizer
from textclf.data.tokens.row_keys import as_tokens
from textclf.data.tokens.text_windows import LongTexts
from textclf.data.tokens.wordpiece import share_of_different_rows
from textclf.errors import EncoderError

# Number of texts, and of characters of each, on which two tokenizers are compared. A fraction does not need all texts.
_TEXTS_COMPARED, _CHARACTERS_COMPARED = 10_000, 2_000


# --- Tokens ----------------------------------------------------------------------------------------------------------
def token_findings(
    dataset: Dataset,
    tokenizer: TextTokenizer,
    max_length: int,
    source: str = "",
    long_texts: LongTexts = "head",
    *,
    propose_windows: bool = False,
) -> list[Finding]:
    """Reports on the tokens of the training rows: how many rows are longer than `max_length` tokens, how many tokens
    are [UNK] and of which words, whether the encoder knows the language, and whether devices and BERT's own programs
    would split the texts differently. `source` is what the recipe calls the encoder. `long_texts` and `propose_windows` as
    in `length_findings`."""
    train = dataset.train
    texts = [text for row in train.texts for text in row]
    pieces = tokenizer.pieces(texts)
    added = tokenizer.ids_added(len(train.texts[0]))
    lengths = added + np.array([len(own) for own in pieces], np.int64).reshape(len(train.texts), -1).sum(axis=1)
    findings = length_findings(train, lengths, added, max_length, long_texts, propose_windows=propose_windows)
    findings += fit_findings(shown_path(train.file), train.texts, train.rows, tokenizer, source)
    findings += _findings_of_unknown(train, texts, pieces, tokenizer)
    if tokenizer.kind == "regex":
        return findings + _findings_of_unknown_twins(dataset, tokenizer, max_length)
    return findings + _findings_of_tokenizers(train, texts, tokenizer)


def _findings_of_unknown(
    train: Split, texts: Sequence[str], pieces: Sequence[Sequence[int]], tokenizer: TextTokenizer
) -> list[Finding]:
    unknown = [own.count(tokenizer.unknown_id) for own in pieces]
    if not any(unknown):
        return []
    width = len(train.texts[0])
    rows = [row for place, row in enumerate(train.rows) if any(unknown[place * width : (place + 1) * width])]
    total = sum(map(len, pieces))
    share = f"{shown_path(train.file)}: {sum(unknown):,} of {total:,} {{}} ({percent(sum(unknown) / total)})"
    if tokenizer.kind == "regex":
        message = (
            f"{share.format('words')} have no vector of their own: they occur once, or are not among the most frequent "
            "encoder.words"
        )
        return [of_rows("unknown_tokens", message, rows, "note")]
    words = Counter(
        word for text, count in zip(texts, unknown, strict=True) if count for word in re.findall(r"\w+|[^\w\s]", text)
    )
    pieces_of = dict(zip(words, tokenizer.pieces(list(words)), strict=True))
    frequent = [word for word, _ in words.most_common() if tokenizer.unknown_id in pieces_of[word]][:5]
    which = f", most often {named(frequent)}" if frequent else ""
    message = f"{share.format('tokens')} are unknown to the encoder ([UNK]){which}"
    return [of_rows("unknown_tokens", message, rows, "note")]


def _findings_of_unknown_twins(dataset: Dataset, tokenizer: TextTokenizer, max_length: int) -> list[Finding]:
    """Reports rows that differ as texts but not in the words of the vocabulary, which comes from the training rows."""
    read = as_tokens(tokenizer, max_length)
    trained = set(read(dataset.train.texts).keys)
    findings = []
    for split in dataset.held_out:
        keys = read(split.texts)
        rows = [
            row
            for row, key, unknown in zip(split.rows, keys.keys, keys.unknown, strict=True)
            if unknown and key in trained
        ]
        if rows:
            message = (
                f"{split.name}: {counted(len(rows), 'row')} of {shown_path(split.file)} that the model cannot tell apart from "
                "training rows, because they differ in unknown words only"
            )
            findings.append(of_rows("unknown_words_only", message, rows, "note"))
    return findings


def _findings_of_tokenizers(train: Split, texts: Sequence[str], tokenizer: TextTokenizer) -> list[Finding]:
    with suppress(EncoderError):  # devices cannot use this vocabulary, so there is nothing to compare
        compared = [text[:_CHARACTERS_COMPARED] for text in texts[:: -(-len(texts) // _TEXTS_COMPARED)]]
        share = share_of_different_rows(tokenizer.vocabulary, compared)
        if share > 0.01:
            remedy = (
                "Phones will split them as in training, but words with accents may be unknown to the encoder"
                if tokenizer.kind == "device"
                else "Phones will not split them as in training; set encoder.tokenizer to device to train on what phones read"
            )
            message = (
                f"{shown_path(train.file)}: {percent(share)} of the texts are split differently by device tokenizers "
                f"and by BERT's own, which removes accents and lower-cases all letters. {remedy}"
            )
            return [Finding("tokenizers_differ", message, round(share * len(texts)), severity="note")]
    return []
