"""What a look at the data reports beyond rows: labels, missing values, lists, markup, mojibake, languages."""

from __future__ import annotations

import unicodedata
from collections import Counter

import pytest

from tests.command import run
from tests.data.test_dataset import found, kinds, load  # noqa: F401 - `load` is a fixture
from tests.tiny import VOCABULARY, write_recipe
from textclf.data.findings.finding import visible
from textclf.data.findings.label_lists import list_like
from textclf.data.findings.label_spellings import alike_groups, not_writable, other_spellings, typing_errors
from textclf.data.findings.missing_values import written_by
from textclf.data.findings.of_tokens import token_findings
from textclf.data.findings.text_faults import markup_in, mojibake_in
from textclf.data.tokens.wordpiece import Tokenizer
from textclf.encoders.sources.locate import load_vocabulary
from textclf.errors import DataError, RecipeError
from textclf.recipe.reading import load_recipe
from textclf.runs.check import check


def rows_of(labels: list[str], copies: int = 30) -> str:
    quoted = ['"' + label.replace('"', '""') + '"' for label in labels]
    rows = (f"note {place} {copy},{label}\n" for copy in range(copies) for place, label in enumerate(quoted))
    return "text,label\n" + "".join(rows)


# --- Missing values --------------------------------------------------------------------------------------------------


MISSING = (
    "nan NaN None null NULL N/A n/a #N/A NA <NA> - -- ? missing unknown? \\N nil undefined NaT (blank) #VALUE! #REF! "
    "\"\" '' #NV #N/D #DIV/0! #¡VALOR! #Н/Д . .a Err:502 [NULL] <nil> -999 (leer) k.A. 不明 — [] {} (null) ｎａｎ"
).split()


@pytest.mark.parametrize(
    "value", [*MISSING, " nan ", "not available", "keine Angabe", "nan nan", "[object Object]", "n. a."]
)
def test_what_programs_write_for_a_missing_value_is_recognised(value):
    assert written_by(value) is not None


@pytest.mark.parametrize("value", ["no", "nano", "ham", "0", ":)", "A", "nana", "not", "nothing new", "x" * 10_000, ""])
def test_other_values_are_not_missing(value):
    assert written_by(value) is None


def test_a_missing_value_as_label_is_kept_and_reported(load):  # noqa: F811
    dataset = load(rows_of(["billing", "nan", "returns"]))
    finding = found(dataset, "missing_value_label")
    assert dataset.labels == ["billing", "nan", "returns"]
    assert (finding.count, finding.rows[:2]) == (30, (3, 6))
    assert finding.message.startswith(
        "train.csv: 30 rows have the label `nan`, which pandas and NumPy write for a missing value; it is learned as a "
        "label like any other. If the label is missing, fill it in or delete the rows (rows 3, 6"
    )


def test_missing_values_as_texts_are_kept_and_reported(load):  # noqa: F811
    dataset = load(rows_of(["a", "b"]) + "nan,a\n#N/A,b\nNone of it works,a\n")
    finding = found(dataset, "missing_value_text")
    assert (finding.count, finding.rows) == (2, (62, 63))
    assert finding.message == (
        "train.csv: 2 texts are nothing but `nan` (1) and `#N/A` (1), written for a missing value by pandas and NumPy and by "
        "spreadsheets; they are learned as texts like any other. If a text is missing, fill it in or delete the row "
        "(rows 62 and 63)"
    )


# --- Labels that a person takes for one ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "difference"),
    [
        (["réclamation", unicodedata.normalize("NFD", "réclamation")], "in how accented letters are stored"),
        (["spam", "spam\u200b", "\ufeffspam", "sp\u00adam"], "in invisible characters"),
        (["card payment", "card\u00a0payment", " card  payment"], "in blanks"),
        (["Spam", "SPAM "], "in capitals or blanks"),
        (["ｓｐａｍ", "spam", "ﬁne spam"[4:]], "in full-width letters"),
        (["1", "1.0", "01", "1,0", "+1"], "in how a number is written"),
        (["1,000", "1000", "1 000"], "in how a number is written"),
        (["sign_up", "Sign-Up", "sign up", "signUp", "sign/up", "sign – up"], "in separators"),
        (["it's", "it’s", "its"], "in separators"),
        (["'spam'", '"spam"', "“spam”", "[spam]", "spam."], "in separators"),
        (["R&D team".replace("&", " & "), "R and D team"], "in separators"),
        (["class 1", "class 01", "class_1"], "in separators"),
        (["reclamation", "Réclamation"], "in accents"),
        (["зелёный", "Зеленый"], "in accents"),
        (["spam", "sp\u0430m", "s\u03c1am"], "in letters of different scripts"),
        (["كتاب", "کتاب"], "in letters of different scripts"),
        (["Вопрос", "вопрос"], "in capitals"),
    ],
    ids=str,
)
def test_spellings_of_one_label_are_one_group(labels, difference):
    ((found_difference, group),) = alike_groups([*labels, "other"])
    assert group == labels
    assert found_difference.startswith(difference)


@pytest.mark.parametrize(
    "labels",
    [
        ["C", "C++", "C#"],
        ["A+", "A", "A-"],
        ["-1", "0", "1"],
        ["1-2", "12", "1.2"],
        ["<5", ">5"],
        [":)", ":("],
        ["+", "-"],
        ["50%", "50"],
        ["class 1", "class 10", "class 2"],
        ["v1.05", "v1.5"],
        ["9e999999999", "1"],
        ["हि", "हा"],
    ],
    ids=str,
)
def test_labels_that_only_look_similar_are_no_group(labels):
    assert alike_groups(labels) == []


def test_labels_that_look_alike_are_shown_with_code_points(load):  # noqa: F811
    dataset = load(rows_of(["spam", "sp\u0430m", "ham"]))
    assert found(dataset, "similar_labels").message == (
        "train.csv: the labels `spam` (ASCII only) and `sp\u0430m` (U+0430) differ only in letters of different scripts that "
        "look alike; are they the same label? If so, write them alike in the file"
    )
    assert visible("a\u200bb\nc") == r"`a\u200bb\x0ac`"


def test_of_many_similar_labels_ten_groups_are_told_and_the_others_counted(load):  # noqa: F811
    dataset = load(
        rows_of([spell(f"label{'x' * place}") for place in range(25) for spell in (str.upper, str.lower)], 2)
    )
    similar = [finding for finding in dataset.findings if finding.kind == "similar_labels"]
    assert len(similar) == 11
    assert similar[-1].message == "train.csv: 15 more groups of labels that differ only in how they are written"
    assert similar[-1].count == 30


def test_a_rare_label_one_letter_from_a_frequent_one_may_be_mistyped(load):  # noqa: F811
    counts = {
        "shipping": 300,
        "billing": 200,
        "shiping": 2,
        "shippingg": 1,
        "shjpping": 1,
        "hsipping": 1,
        "filling": 150,
    }
    expected = dict.fromkeys(["shiping", "shippingg", "shjpping", "hsipping"], "shipping")
    assert typing_errors(counts) == expected
    assert typing_errors({"level 1": 300, "level 2": 2, "cat": 90, "car": 1}) == {}
    dataset = load(rows_of(["shipping", "returns"]) + "x y,shiping\n")
    assert found(dataset, "mistyped_label").message == (
        "train.csv: perhaps mistyped labels: `shiping` (1 row) for `shipping` (30); are they the same label? If so, correct "
        "the rows (row 62)"
    )


def test_an_unknown_label_of_the_test_file_is_compared_with_the_known_ones(load):  # noqa: F811
    with pytest.raises(DataError) as caught:
        load(rows_of(["0", "1", "2"]), test="text,label\nx,1.0\ny,0.0\n")
    assert str(caught.value) == (
        "test.csv: `0.0` and `1.0` in rows 2 and 3, but the labels in the training file are `0`, `1` and `2`; `0.0` is "
        "perhaps `0`, `1.0` is perhaps `1`: write each label alike in all files"
    )
    assert other_spellings(["eggs"], ["ham"]) == {}


def test_blanks_around_and_within_labels_are_reported(load):  # noqa: F811
    dataset = load(rows_of(["spam ", "ham", "a  b"]))
    assert found(dataset, "blanks_in_label").message == (
        "train.csv: 2 labels begin or end with a blank, or hold unusual blanks: `a  b` and `spam `; the model returns them as "
        "they are. Remove the blanks in the file if they are not meant"
    )


@pytest.mark.parametrize(
    "mark", ["\n", "\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"], ids=ascii
)
def test_a_line_break_anywhere_in_a_label_stops_before_training(load, mark):  # noqa: F811
    for label in (f"good{mark}", f"{mark}good", f"go{mark}od"):
        with pytest.raises(DataError, match=r"train.csv: the label .* in rows 3, 5, .* contains a line break"):
            load(rows_of(["bad", label]))


def test_labels_that_no_file_of_lines_holds_are_named():
    assert not_writable("half \ud83d") == "contains half of a character (a lone surrogate)"
    assert not_writable("a\0b") == "contains a NUL character"
    assert not_writable("  ") == "is empty"
    assert not_writable(" spam \u200b📦,;\"'") is None


def test_a_line_break_at_the_end_of_a_label_of_the_recipe_is_refused(tmp_path):
    recipe = write_recipe(tmp_path)
    recipe.write_text(recipe.read_text().replace("label: mood", 'label: mood\n  labels: ["good\\n", bad]'))
    with pytest.raises(RecipeError, match="line break"):
        load_recipe(recipe)


def test_several_label_columns_in_a_recipe_are_refused_with_a_way_out(tmp_path):
    recipe = write_recipe(tmp_path)
    recipe.write_text(recipe.read_text().replace("label: mood", "label: [mood, tone]"))
    with pytest.raises(RecipeError, match=r"dataset.label is a list of columns, .* name them in dataset.labels_from"):
        load_recipe(recipe)


# --- Several labels in a row -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lists",
    [
        ["billing; vip", "vip;shipping"],
        ["billing|vip", "vip|shipping"],
        ["billing, vip", "vip, shipping"],
        ["['billing']", "['billing', 'vip']"],
        ['["billing","vip"]'],
        ["{billing,vip}"],
        ["<billing><vip>", "<vip>", "<billing>"],
        ["__label__billing __label__vip"],
        ["#billing #vip"],
        ["billing/vip", "vip/shipping"],
        ["billing vip", "vip shipping"],
        ["billing + vip", "vip + shipping"],
        ["billing and vip", "vip and shipping"],
        ["billing、vip"],
    ],
    ids=str,
)
def test_several_labels_in_one_cell_are_recognised(lists):
    assert list_like(["billing", "vip", "shipping", *lists]) == set(lists)


@pytest.mark.parametrize(
    "labels",
    [
        ['Rechnung, "Zahlung" & Mahnung ', "=cmd|#1; Rücksendung", "📦 شحن"],
        ["very positive", "positive", "negative", "very negative"],
        ["Paris, France", "Lyon, France"],
        ["card_payment_fee", "card_arrival", "card"],
        ["1-2", "2-3"],
        ["<5", "5-10", ">10"],
        ["A/B test", "B"],
        ["(other)", "[x"],
    ],
    ids=str,
)
def test_ordinary_labels_are_no_lists(labels):
    assert list_like(labels) == set()


def test_lists_of_labels_are_reported_with_their_rows(load):  # noqa: F811
    dataset = load(rows_of(["billing", "vip", "billing; vip"]))
    finding = found(dataset, "list_of_labels")
    assert (finding.count, finding.rows[:2]) == (30, (4, 7))
    assert finding.message.startswith(
        "train.csv: 1 label looks like a list of labels, for example `billing; vip`; it is learned as one label. If a row may "
        "have several labels, set dataset.label_separator to `;`; if not, keep one label in each row"
    )


def test_columns_of_zeros_and_ones_are_recognised(load):  # noqa: F811
    rows = "text,billing,returns\n" + "".join(f"note {number},{number % 2},{1 - number % 2}\n" for number in range(60))
    assert (
        "columns `billing`, `returns` hold only 0 and 1; if each of them is a label, name them in dataset.labels_from: [billing, "
        "returns]" in found(load(rows, label="billing"), "label_columns").message
    )
    with pytest.raises(
        DataError, match=r"there is no column `label` .* the columns `billing`, `returns` hold only 0 and 1"
    ):
        load(rows)
    assert "label_columns" not in kinds(
        load(rows.replace("returns", "rating").replace(",0\n", ",7\n"), label="billing")
    )


def test_a_repeated_header_and_texts_that_are_labels_are_reported(load):  # noqa: F811
    dataset = load(rows_of(["a", "b"]) + "text,label\nthe text,Label\n")
    assert found(dataset, "header_as_label").rows == (63,)
    rows = "text,label\n" + "".join(f"{label},{label}\n" for label in ("spam", "ham") for _ in range(20))
    assert found(load(rows, validation=rows), "text_is_label").count == 40


def test_numbers_in_the_order_of_text_are_noted(load):  # noqa: F811
    finding = found(load(rows_of([str(number) for number in range(1, 13)])), "numeric_order")
    assert finding.severity == "note"
    assert "(1, 10, 11, …); set dataset.labels" in finding.message
    assert "numeric_order" not in kinds(load(rows_of(["0", "1", "2"])))


# --- Texts that nobody wrote -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "example"),
    [
        ("a<br />b", "<br />"),
        ("<p class='x'>a</p>", "<p class='x'>"),
        ("fish &amp; chips", "&amp;"),
        ("&#39;tis", "&#39;"),
        ("&#x1F600;", "&#x1F600;"),
        ("<!-- x -->", "<!--"),
        ("I <3 you", None),
        ("a < b > c", None),
        ("R&D; and more", None),
        ("if x<y and y>z", None),
        ("AT&T", None),
        ("&nosuch;", None),
    ],
)
def test_markup_is_told_from_text(text, example):
    assert markup_in(text) == example


GOOD_TEXTS = [
    "Voilà l'été à Nîmes : « ça coûte 12 € » – déjà vendu, NOËL",
    "«\u00a0relevé\u00a0» DÉJÀ\u00a0! É\u00a0» façade",
    "Größe: 20 °C, Maße „Übermut“, ÄÖÜß, „Ä“",
    "¿Cuándo? ¡Mañana! ESPAÑA niño",
    "São Paulo não é à toa, AÇÃO, MAÇÃ",
    "Привет, как дела? РОССИЯ",
    "Καλημέρα ΑΘΗΝΑ",
    "你好，世界",
    "日本語のテキスト",
    "مرحبا بالعالم",
    "Łódź, żółw, Škoda, Ærø, Ångström",
    "Tiếng Việt có dấu",
    "emoji 😀 👍🏽 “quotes” – dash… ™ © ½ ×",
    "Íslenska þæö ðúóíá",
]


@pytest.mark.parametrize("text", GOOD_TEXTS)
def test_accented_text_is_no_mojibake(text):
    assert mojibake_in(text) is None


@pytest.mark.parametrize(
    ("text", "written", "read"),
    [
        ("café crème", "utf-8", "cp1252"),
        ("it’s late", "utf-8", "cp1252"),
        ("l’été à Nîmes", "utf-8", "latin-1"),
        ("12 € – ok", "utf-8", "cp1252"),
        ("Привет мир", "utf-8", "latin-1"),
        ("Привет мир", "utf-8", "cp1251"),
        ("привет как дела", "cp1251", "cp1252"),
        ("Καλημέρα κόσμε", "cp1253", "latin-1"),
        ("日本語のテキスト", "utf-8", "latin-1"),
        ("good 😀", "utf-8", "latin-1"),
        ("große Füße", "utf-8", "mac-roman"),
        ("café olé", "utf-8", "cp437"),
        ("café olé", "utf-8", "cp850"),
        ("żółw", "utf-8", "latin-1"),
    ],
)
def test_text_read_with_the_wrong_encoding_is_mojibake(text, written, read):
    assert mojibake_in(text.encode(written).decode(read)) is not None


def test_faults_of_texts_are_reported_for_every_file(load):  # noqa: F811
    faults = "it’s late".encode().decode("cp1252") + ",a\nlost �,b\nbell \x07 rings,a\n<b>bold</b>,b\n"
    dataset = load(rows_of(["a", "b"]), test="text,label\n" + faults)
    told = {finding.kind: (finding.rows, finding.message.split(" with")[0]) for finding in dataset.findings[:4]}
    assert told == {
        "markup": ((5,), "test.csv: 1 text (25.0%)"),
        "mojibake": ((2,), "test.csv: 1 text (25.0%)"),
        "lost_characters": ((3,), "test.csv: 1 text (25.0%)"),
        "control_characters": ((4,), "test.csv: 1 text (25.0%)"),
    }
    assert r"for example `\x07`" in found(dataset, "control_characters").message


# --- Languages -------------------------------------------------------------------------------------------------------

FOREIGN = {
    "unknown_script": [
        "وصل الطلب قبل موعده والمنتج ممتاز",
        "посылка пришла вовремя и товар отличный",
        "包裹按时到达质量很好",
        "荷物が予定通りに届きました",
        "배송이 빨라서 정말 좋았습니다",
        "το δέμα έφτασε στην ώρα του",
        "पार्सल समय पर पहुँच गया",
        "พัสดุมาถึงตรงเวลา",
        "החבילה הגיעה בזמן והמוצר מצוין",
    ],
    "unknown_language": [
        "Das bestellte Paket wurde gestern endlich geliefert, leider beschädigt",
        "Le colis commandé est enfin arrivé hier mais malheureusement abîmé",
        "Le service client est simple, rapide, mais mon colis important reste introuvable depuis mardi dernier",
        "El paquete pedido llegó finalmente ayer pero lamentablemente dañado",
        "O pacote encomendado chegou finalmente ontem, infelizmente danificado",
        "Il pacco ordinato finalmente arrivato ieri ma purtroppo danneggiato",
        "Het bestelde pakket werd gisteren eindelijk geleverd, helaas beschadigd",
        "Zamówiona paczka wczoraj wreszcie dotarła, niestety uszkodzona",
        "Sipariş edilen paket sonunda geldi fakat maalesef hasarlı çıktı",
        "Tilattu paketti saapui vihdoin eilen mutta valitettavasti vaurioituneena",
    ],
}


@pytest.fixture(scope="module")
def builtin() -> Tokenizer:
    return Tokenizer(load_vocabulary("builtin").pieces)


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in FOREIGN.items() for text in texts])
def test_a_language_that_the_built_in_encoder_does_not_know_is_reported(load, builtin, kind, text):  # noqa: F811
    rows = "text,label\n" + "".join(f'"{text} {number}",{number % 2}\n' for number in range(8))
    findings = token_findings(load(rows, validation=rows), builtin, 64, "builtin")
    finding = next(one for one in findings if one.kind.startswith("unknown_") and one.kind != "unknown_tokens")
    assert (finding.kind, finding.count) == (kind, 8)
    assert (
        "The built-in encoder knows English only; set encoder.source to an encoder for this language" in finding.message
    )


def test_english_with_names_typing_errors_and_a_few_foreign_rows_is_no_other_language(load, builtin):  # noqa: F811
    english = "pls help my Samsung Galaxy wont charge anymore, Vodafone says warrenty is over lol #fail"
    rows = "text,label\n" + "".join(f'"{english} {number}",{number % 2}\n' for number in range(40))
    rows += "".join(f'"{text}",0\n' for text in (*FOREIGN["unknown_script"][:3], FOREIGN["unknown_language"][2]))
    told = {finding.kind for finding in token_findings(load(rows, validation=rows), builtin, 64, "builtin")}
    assert not told & {"unknown_script", "unknown_language"}


def test_a_vocabulary_of_another_language_knows_its_script(load):  # noqa: F811
    words = [f"слово{one}{two}" for one in "абвгдежзик" for two in "абвгдежзиклм"]
    rows = "text,label\n" + "".join(f"{' '.join(words[place : place + 6])},{place % 2}\n" for place in range(20))
    dataset = load(rows, validation=rows)
    told = token_findings(dataset, Tokenizer([*VOCABULARY, *words]), 64)
    assert "unknown_script" not in {finding.kind for finding in told}
    unknown = next(one for one in token_findings(dataset, Tokenizer(VOCABULARY), 64) if one.kind == "unknown_script")
    assert "a script (Cyrillic) that the encoder does not know" in unknown.message
    assert "built-in" not in unknown.message


def test_texts_of_which_the_encoder_reads_nothing_are_reported(load):  # noqa: F811
    dataset = load(rows_of(["a", "b"]) + "\ufeff\u200b\u00ad,a\n", validation=rows_of(["a", "b"]))
    finding = token_findings(dataset, Tokenizer(VOCABULARY, "bert"), 16)[0]
    assert (finding.kind, finding.rows) == ("no_tokens", (62,))


# --- The report of a check -------------------------------------------------------------------------------------------


def test_a_check_lists_warnings_before_notes(tmp_path, capfd):
    recipe = write_recipe(tmp_path, rows=40)
    assert run("check", recipe) == 0
    shown = capfd.readouterr().out.splitlines()
    assert shown[1:5] == ["Rows: 32 train, 8 validation, 60 test", "Labels: 2", *shown[3:5]]
    told = [line.split(":")[0] for line in shown if line.startswith(("Warning", "Note"))]
    assert told == sorted(told, reverse=True)
    assert "Warning: validation: 8 rows only" in "\n".join(shown)
    assert Counter(finding["severity"] for finding in check(recipe).as_dict()["findings"])["warning"] >= 1


def test_a_written_missing_value_in_brackets_is_no_list_of_labels():
    assert list_like(["[null]", "['a', 'b']", "late"]) == {"['a', 'b']"}


def test_the_remedy_for_a_control_character_of_cp1252_names_what_it_stands_for(load):  # noqa: F811
    rows = rows_of(["a", "b"])
    assert "in cp1252 this one is `’`" in found(load(rows + "it\x92s here,a\n"), "control_characters").message
    assert found(load(rows + "bell\x07,a\n"), "control_characters").message.startswith("train.csv: 1 text")
    assert "remove them from the data" in found(load(rows + "bell\x07,a\n"), "control_characters").message
