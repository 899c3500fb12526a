"""Which encoding a file is in: judged by its text, named only with evidence, and right when the advice is followed."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from textclf.data.dataset import load_dataset
from textclf.data.examples import Dataset
from textclf.data.tables.encoding import Evidence
from textclf.data.tables.table import open_table
from textclf.errors import DataError
from textclf.recipe.settings import DatasetSettings

TEXTS = {
    "German": [
        "Die Lampe läuft nicht, bitte schicken Sie Ersatz",
        "Größe und Farbe stimmen nicht",
        "für die Küche zu groß",
    ],
    "French": [
        "Le colis n’est jamais arrivé à la maison",
        "J’ai été débitée deux fois, ça suffit",
        "où est mon reçu ?",
    ],
    "Spanish": [
        "¿Cuándo llega el envío del señor Muñoz?",
        "La lámpara está rota, así no sirve",
        "devolución del artículo",
    ],
    "Polish": [
        "Proszę o zwrot pieniędzy, książka jest zła",
        "Dlaczego paczka wciąż nie przyszła?",
        "źle, część łóżka pękła",
    ],
    "Czech": ["Dobrý den, zboží přišlo poškozené", "Chtěl bych vrátit peníze, účet přiložím", "kdy dorazí můj balík?"],
    "Turkish": [
        "Ürün kırık geldi, değişim istiyorum",
        "Siparişim hâlâ ulaşmadı, çok üzgünüm",
        "yanlış ışık gönderilmiş",
    ],
    "Russian": ["Лампа пришла разбитой, верните деньги", "Когда приедет посылка? Жду уже месяц", "Неправильный размер"],
    "Ukrainian": [
        "Лампа прийшла розбитою, поверніть гроші",
        "Коли приїде посилка? Чекаю її вже місяць",
        "Інший розмір",
    ],
    "Greek": ["Η λάμπα ήρθε σπασμένη, θέλω τα χρήματά μου", "Πότε έρχεται το δέμα; Περιμένω καιρό", "λάθος μέγεθος"],
    "Hebrew": ["המנורה הגיעה שבורה, אני רוצה החזר", "מתי תגיע החבילה שלי", "מידה לא נכונה"],
    "Arabic": ["وصل المصباح مكسورا وأريد استرداد المال", "متى تصل الشحنة الخاصة بي", "المقاس غير صحيح"],
    "Japanese": [
        "ランプが壊れていたので返金してください",
        "荷物はいつ届きますか。一か月待っています",
        "サイズが違います",
    ],
    "Chinese": ["灯坏了，我要退钱，请尽快处理", "我的包裹什么时候到？已经等了一个月", "尺寸不对，要换一个"],
    "Taiwanese": ["燈壞了，我要退錢，請盡快處理", "我的包裹什麼時候到？已經等了一個月", "尺寸不對，要換一個"],
    "Korean": [
        "조명이 깨져서 왔어요. 환불해 주세요",
        "택배는 언제 도착하나요? 한 달을 기다렸습니다",
        "사이즈가 다릅니다",
    ],
}
ENCODINGS = {
    "German": "cp1252 cp850 mac-roman",
    "French": "cp1252 cp1252 mac-roman",
    "Spanish": "cp1252 cp850 mac-roman",
    "Polish": "cp1250 iso-8859-2 cp852",
    "Czech": "cp1250 iso-8859-2 cp852",
    "Turkish": "cp1254 iso-8859-9 cp857",
    "Russian": "cp1251 koi8-r cp866 mac-cyrillic iso-8859-5",
    "Ukrainian": "cp1251 koi8-u",
    "Greek": "cp1253 iso-8859-7 cp737",
    "Hebrew": "cp1255 iso-8859-8",
    "Arabic": "cp1256 iso-8859-6",
    "Japanese": "shift_jis euc-jp",
    "Chinese": "gb18030",
    "Taiwanese": "big5",
    "Korean": "euc-kr",
}
CASES = [(language, encoding) for language, names in ENCODINGS.items() for encoding in dict.fromkeys(names.split())]


def csv_of(texts: list[str], copies: int = 4) -> str:
    rows = [f'"{text} {number}",{"ab"[number % 2]}\n' for number in range(copies) for text in texts]
    return "text,label\n" + "".join(rows)


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def write_and_load(train: bytes, encoding: str = "utf-8", test: bytes | None = None) -> Dataset:
        (tmp_path / "train.csv").write_bytes(train)
        if test is not None:
            (tmp_path / "test.csv").write_bytes(test)
        named = {} if test is None else {"test": Path("test.csv")}
        return load_dataset(DatasetSettings(train="train.csv", encoding=encoding, **named), 1)

    return write_and_load


def load_error(load, *arguments, **options) -> str:
    with pytest.raises(DataError) as caught:
        load(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize(("language", "encoding"), CASES)
def test_the_encoding_that_the_advice_names_gives_the_text_that_was_written(load, language, encoding):
    content = csv_of(TEXTS[language])
    try:
        raw = content.encode(encoding)
    except UnicodeEncodeError:  # a typographic sign that this encoding lacks
        raw = content.encode(encoding, "ignore")
    message = load_error(load, raw)
    named = re.search(r"set `dataset\.encoding: ([\w-]+)`", message)
    assert named is not None, message
    assert raw.decode(named[1]) == raw.decode(encoding)
    dataset = load(raw, encoding=named[1])
    read = {text for split in dataset.splits for (text,) in split.texts}
    assert read == {line[1:-3] for line in raw.decode(encoding).splitlines()[1:]}
    assert "encoding_doubt" not in {one.kind for one in dataset.findings}


def test_no_encoding_is_named_without_evidence(load):
    random.seed(3)
    rows = [bytes(random.choices(range(128, 256), k=30)) for _ in range(30)]
    message = load_error(load, b"text,label\n" + b"".join(row + b",a\n" for row in rows))
    assert "which encoding it is cannot be told from the text: find out how the file was written" in message
    assert "set `dataset.encoding" not in message


def test_all_undecodable_rows_count_not_the_first_alone():
    evidence = Evidence("utf-8")
    for text in ("café", *TEXTS["French"]):  # a single é could be many things
        evidence.add(text.encode("mac-roman").decode("utf-8", "surrogateescape"))
    verdict = evidence.verdict()
    assert verdict is not None
    assert verdict.encoding == "mac-roman"


def test_a_few_odd_rows_of_a_utf8_file_are_given_by_number(load):
    good = csv_of(TEXTS["German"]).encode()
    message = load_error(load, good + "Größe fehlt,a\n".encode("cp1252") + "grün,b\nfür,a\n".encode())
    assert message == (
        "train.csv: row 14 holds the byte 0xf6 (offset 513), which is not utf-8; 14 other rows of the file show that it is "
        "utf-8, so another setting would garble them: correct this row (they would be cp1252: `Größe`)"
    )


def test_one_file_of_several_in_another_encoding_is_converted_by_the_command_of_the_message(load, tmp_path):
    train = csv_of(TEXTS["German"]).encode()
    test = csv_of(TEXTS["German"]).encode("cp1252")
    message = load_error(load, train, test=test)
    assert (
        "dataset.encoding holds for all: convert this file and name test-utf8.csv in dataset.test: python -c" in message
    )
    code = message.split('python -c "')[1].rsplit('"', 1)[0]
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert (tmp_path / "test-utf8.csv").read_bytes() == train


def test_files_of_one_encoding_get_one_setting(load):
    raw = csv_of(TEXTS["Russian"]).encode("cp1251")
    ascii_only = b"text,label\nnothing,a\nanything,b\n"
    for test in (raw, ascii_only):
        message = load_error(load, raw, test=test)
        assert "train.csv: row 2 holds the byte 0xcb" in message
        assert "set `dataset.encoding: cp1251`" in message


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "cp1251", "shift_jis", "gb18030"])
def test_a_utf8_file_is_not_read_in_another_encoding(load, encoding):
    message = load_error(load, csv_of(TEXTS["French"]).encode(), encoding=encoding)
    assert "train.csv" in message
    assert "utf-8" in message.lower()


def test_utf8_read_as_cp1252_is_refused_with_what_would_become_of_it():
    import io

    with pytest.raises(DataError) as caught:
        open_table(io.BytesIO("text,label\nzu groß für mich,a\n".encode()), encoding="cp1252", name="data.csv")
    assert str(caught.value) == (
        "data.csv: is UTF-8, not cp1252: `groß` would be read as `groÃŸ`; set the encoding to utf-8 (dataset.encoding, "
        "--encoding), and convert files that are not UTF-8"
    )


def test_text_that_becomes_nonsense_in_the_given_encoding_is_doubted(load):
    dataset = load(csv_of(TEXTS["Russian"]).encode("cp1251"), encoding="cp1252")
    doubt = next(one for one in dataset.findings if one.kind == "encoding_doubt")
    assert doubt.message.startswith("train.csv: the text looks like cp1251 rather than cp1252 (`")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_encodings_without_a_mark_are_told_apart(load, encoding):
    message = load_error(load, csv_of(["ok"]).encode(encoding))
    assert f"(perhaps {encoding})" in message
    assert len(load(csv_of(["ok"]).encode(encoding), encoding=encoding).labels) == 2


def test_a_header_that_cannot_be_decoded_names_the_encoding_of_the_file(load):
    raw = ("текст,метка\n" + csv_of(TEXTS["Russian"]).split("\n", 1)[1]).encode("koi8-r")
    message = load_error(load, raw)
    assert "row 1 (the header) holds the byte 0xd4" in message
    assert "koi8-r fits the first rows" in message


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_compressed_training_files_are_read(load, tmp_path, suffix):
    import gzip

    from backports import zstd

    content = csv_of(TEXTS["German"]).encode()
    packed = gzip.compress(content) if suffix == "gz" else zstd.compress(content)
    (tmp_path / f"data.csv.{suffix}").write_bytes(packed)
    dataset = load_dataset(DatasetSettings(train=f"data.csv.{suffix}"), 1)
    assert sum(len(split.rows) for split in dataset.splits) == 12


def test_the_evidence_of_a_large_file_stays_small():
    evidence = Evidence("utf-8")
    row = "für".encode("cp1252").decode("utf-8", "surrogateescape")
    for _ in range(50_000):
        evidence.add(row)
    assert (evidence.undecodable, len(evidence._bad.sample) < 10_000) == (50_000, True)
    assert sum(map(len, evidence._bad._block)) < 1 << 17
