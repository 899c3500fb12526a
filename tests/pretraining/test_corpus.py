"""From text files to shuffled token ids on disk."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from pretraining.corpus import Corpus, prepared
from tests.tiny import VOCABULARY
from textclf.data.tokens.wordpiece import Tokenizer
from textclf.errors import DataError, RunError

LINES = ["I love this film!", "so sad, please help", "i LOVE this film!", "12:30", "the best app"]


def passages(corpus: Corpus) -> list[list[int]]:
    return [
        corpus.ids[start : start + size].tolist() for start, size in zip(corpus.starts, corpus.lengths, strict=True)
    ]


def test_a_prepared_corpus_holds_each_text_once_in_the_device_tokenizers_tokens(tmp_path: Path) -> None:
    (tmp_path / "corpus-0.txt").write_text("\n".join(LINES[:2]), encoding="utf-8")
    (tmp_path / "corpus-1.txt.xz").write_bytes(lzma.compress("\n".join(LINES[2:]).encode()))
    found = passages(prepared(tmp_path, "corpus", VOCABULARY, tmp_path / "out", seed=0))
    kept = Tokenizer(VOCABULARY, "device").pieces([LINES[0], LINES[1], LINES[4]])
    assert sorted(found) == sorted(kept)
    (tmp_path / "out" / "ids.npy").touch()
    assert passages(prepared(tmp_path, "corpus", VOCABULARY, tmp_path / "out", seed=0)) == found


def test_long_passages_are_not_truncated(tmp_path: Path) -> None:
    (tmp_path / "heldout.txt").write_text("the film " * 400, encoding="utf-8")
    assert prepared(tmp_path, "heldout", VOCABULARY, tmp_path / "out", seed=0).lengths.tolist() == [800]


def test_a_folder_made_from_other_texts_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "corpus-0.txt"
    file.write_text("\n".join(LINES), encoding="utf-8")
    prepared(tmp_path, "corpus", VOCABULARY, tmp_path / "out", seed=0)
    file.write_text("\n".join(LINES[:3]), encoding="utf-8")
    with pytest.raises(RunError, match="choose another --run folder"):
        prepared(tmp_path, "corpus", VOCABULARY, tmp_path / "out", seed=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "contains no corpus"), (b"a\n1\n", "no line has two tokens"), (b"\xff\xfe\n", "expected UTF-8 text")],
)
def test_texts_that_cannot_be_used_are_refused(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "corpus-0.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        prepared(tmp_path, "corpus", VOCABULARY, tmp_path / "out", seed=0)
