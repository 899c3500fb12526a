"""Splitting texts into words as the runtimes' regex tokenizer does it."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tests.tiny import ids_of
from textclf.data.tokens.encoded import pad
from textclf.data.tokens.words import DELIMITER_PATTERN, WordTokenizer, device_splitter
from textclf.errors import EncoderError

VOCABULARY = ["<PAD>", "<START>", "<UNKNOWN>", "free", "Free", "été", "don't", "it’s"]
MODEL_MAKERS = r"[^\w\']+"


def encoded(text: str, length: int = 8, vocabulary: list[str] = VOCABULARY, **settings: str) -> list[int]:
    return ids_of(WordTokenizer(vocabulary).encode([(text,)], length, **settings))[0]


def test_words_are_found_letter_by_letter_behind_the_start():
    assert encoded("free, Free! FREE") == [1, 3, 4, 2]


def test_letters_beyond_ascii_and_apostrophes_belong_to_words():
    assert encoded("«été»…don't—it’s") == [1, 5, 6, 7]


def test_a_text_ends_at_its_first_nul():
    assert encoded("free\0free") == [1, 3]


def test_a_text_without_words_is_the_start_alone():
    assert encoded("") == encoded(" ?! \t") == [1]


def test_a_vocabulary_without_a_start_gives_words_alone():
    assert encoded("free lunch", vocabulary=["free", "<UNKNOWN>", "<PAD>"]) == [0, 1]


@pytest.mark.parametrize(("overflow", "kept"), [("head", [3, 4, 5]), ("tail", [5, 6, 7]), ("head_tail", [5, 6, 7])])
def test_a_long_text_is_cut_and_said_to_be(overflow, kept):
    found = WordTokenizer(VOCABULARY).encode([("free Free été don't it’s",), ("free",)], 4, overflow)
    assert ids_of(found)[0] == [1, *kept]
    assert found.truncated.tolist() == [True, False]


def test_inputs_are_filled_with_the_id_of_pad():
    tokenizer = WordTokenizer(["free", "<UNKNOWN>", "<PAD>"])
    ids, mask, segments = pad(tokenizer.encode([("free",), ("a b",)], 3), [0, 1], 3)
    np.testing.assert_array_equal(ids, [[0, 2, 2], [1, 1, 2]])
    np.testing.assert_array_equal(mask, [[1, 0, 0], [1, 1, 0]])
    assert not segments.any()


def test_pairs_are_refused():
    with pytest.raises(ValueError, match="has one text, found 2"):
        WordTokenizer(VOCABULARY).encode([("a", "b")], 8)


def test_a_vocabulary_that_runtimes_refuse_is_refused():
    with pytest.raises(EncoderError, match="lacks <PAD> and <UNKNOWN>"):
        WordTokenizer(["free"])


@pytest.mark.parametrize(
    ("pattern", "text", "words"),
    [
        (MODEL_MAKERS, "café don't_stop", ["caf", "don't_stop"]),
        (r"\W+", "naïve idea", ["na", "ve", "idea"]),
        # Python's own \s knows the vertical tab and, in texts, the no-break space.
        (r"\s+", "a\vb c\u00a0d\te", ["a\vb", "c\u00a0d", "e"]),
        (r"[\s,]", "a\vb, c", ["a\vb", "c"]),
        (r"\S", "ab c\v", [" "]),
        (r"[^a-z\d]+", "ab1 cD2", ["ab1", "c", "2"]),
        (r"\x{e9}|\x41|\.", "aébAc.d", ["a", "b", "c", "d"]),
        (r"(ab|(?:c|d){2})+?", "1ab2cd3c", ["1", "2", "3c"]),
        (r"[]\[&-]+", "a]b[c&d-e", ["a", "b", "c", "d", "e"]),
        (r"x#| ", "ax#b c", ["a", "b", "c"]),
        (r"\d{2,}", "a1b22c", ["a1b", "c"]),
    ],
)
def test_patterns_mean_what_they_mean_to_re2(pattern, text, words):
    assert device_splitter(pattern)(text) == words


@pytest.mark.parametrize(
    ("pattern", "text", "words"),
    [
        (r"\pP|\s", "«a»-b", ["a", "b"]),
        (r"[[:punct:]\s]+", "a.b ¡c", ["a", "b", "¡c"]),
        (r"[^\p{L}\p{N}]+", "naïve идея 42", ["naïve", "идея", "42"]),
        ("(?i)x", "axbXc", ["a", "b", "c"]),
        # Behind each delimiter the rest is a text of its own, at whose beginning ^ holds again.
        ("^a", "aab", ["b"]),
        (r"\ba", "aab", ["b"]),
        ("a$", "aba", ["ab"]),
        # The pattern is put into brackets, and what the first of them hold ends the word.
        ("a)(b", "1ab2", ["1", "2"]),
        # A byte of a character, of which the rest is no text.
        (r"\C", "é", []),
        ("a|b", "x\0ay", ["x"]),
    ],
)
def test_patterns_of_re2_beyond_python_s_are_followed(pattern, text, words):
    assert device_splitter(pattern)(text) == words


@pytest.mark.parametrize(
    "pattern", ["(a)\\1", "a++", "*a", "[a", "(a", r"\x{110000}", "(?=a)", "a{1001}", "(?<n>a", "a" * 10_001]
)
def test_patterns_that_the_runtimes_engine_refuses_are_refused(pattern):
    with pytest.raises(EncoderError, match="delimiter pattern"):
        device_splitter(pattern)


@pytest.mark.parametrize("pattern", [r"\pL{0,500}x", r"(\PL{900})"])
def test_patterns_that_are_large_once_compiled_are_refused(pattern):
    with pytest.raises(EncoderError, match=r"is too large|pattern too large"):
        device_splitter(pattern)


@pytest.mark.parametrize("pattern", ["", r"\s*", "a|", "$", r"\b", r"\B", "(?m)^", ")|(", "x*?"])
def test_patterns_on_which_runtimes_never_end_are_refused(pattern):
    with pytest.raises(EncoderError, match="matches the empty text"):
        device_splitter(pattern)


@pytest.mark.parametrize("pattern", ["(?:x+)+y", "(x|xx)+y", "(?:[^y]|x)*y", "(x*)*y"])
def test_patterns_that_would_backtrack_take_no_time(pattern):
    begun = time.thread_time()
    assert device_splitter(pattern)("x" * 50_000) == ["x" * 50_000]
    assert time.thread_time() - begun < 1


def test_a_pattern_that_reads_the_whole_rest_for_each_delimiter_is_given_up():
    split = device_splitter("x[^y]*y|x", seconds_a_text=0.05)
    with pytest.raises(EncoderError, match=r"needs more than 0\.05 s for a text of 100,000 bytes"):
        split("x" * 100_000)


def test_our_own_pattern_means_to_python_what_it_means_to_the_runtimes_engine():
    every = "".join(map(chr, (*range(1, 0xD800), *range(0xE000, 0x30000))))
    assert device_splitter(DELIMITER_PATTERN)(every) == device_splitter(f"(?:{DELIMITER_PATTERN})")(every)
