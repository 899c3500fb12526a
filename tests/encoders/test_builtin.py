"""The encoders in the package, and what is said when they are others than those that a run began with."""

from __future__ import annotations

import pytest

from textclf.encoders.formats.question_head import question_head
from textclf.encoders.sources.builtin import EARLIER, builtin_change, builtin_with, is_builtin
from textclf.encoders.sources.locate import DEFAULT_BUILTIN, builtin_names, load_checkpoint, locate

SHAPES = {
    "mobilebert-small": {"num_hidden_layers": 4, "embedding_size": 128, "intermediate_size": 1024},
    "mobilebert-small-qa": {"num_hidden_layers": 4, "embedding_size": 128, "intermediate_size": 1024},
    "mobilebert-medium": {"num_hidden_layers": 6, "embedding_size": 256, "intermediate_size": 1344},
}
FIRST_SMALL, SECOND_SMALL, FIRST_MEDIUM = EARLIER


@pytest.fixture(scope="module")
def fingerprints() -> dict[str, str]:
    return {name: load_checkpoint(f"builtin:{name}").fingerprint() for name in builtin_names()}


def test_the_encoders_of_the_package_have_their_shapes_and_the_same_vocabulary(fingerprints):
    checkpoints = {name: load_checkpoint(f"builtin:{name}") for name in fingerprints}
    assert checkpoints.keys() == SHAPES.keys()
    for name, shape in SHAPES.items():
        assert {key: getattr(checkpoints[name].config, key) for key in shape} == shape
    [vocabulary, *others] = (checkpoint.vocabulary for checkpoint in checkpoints.values())
    assert len(vocabulary) == 30_522
    assert all(other == vocabulary for other in others)


def test_the_encoder_for_questions_has_a_head_and_the_others_have_none(fingerprints):
    heads = {name: question_head(load_checkpoint(f"builtin:{name}")) for name in fingerprints}
    assert {name for name, head in heads.items() if head is not None} == {"mobilebert-small-qa"}
    card = (locate("builtin:mobilebert-small-qa") / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert card.startswith("# mobilebert-small-qa\n")
    for fact in ("all-MiniLM-L6-v2", "all-mpnet-base-v2", "Apache-2.0", "36,000 questions", "2,267 steps"):
        assert fact in card


@pytest.mark.parametrize("name", ["mobilebert-small", "mobilebert-medium"])
def test_the_model_card_of_a_built_in_encoder_names_its_teachers_and_their_licence(name):
    card = (locate(f"builtin:{name}") / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert card.startswith(f"# {name}\n")
    for fact in (
        "all-MiniLM-L6-v2",
        "all-mpnet-base-v2",
        "Apache-2.0",
        "176.6 million",
        "4,303 steps",
        "111.5 million",
        "2,722 steps",
    ):
        assert fact in card


def test_nothing_changed_if_the_encoder_is_the_one_that_was_recorded(fingerprints):
    assert builtin_change("builtin", fingerprints[DEFAULT_BUILTIN]) is None
    for name, sha256 in fingerprints.items():
        assert builtin_with(sha256) == name
        assert builtin_change(f"builtin:{name}", sha256) is None


def test_a_folder_is_no_built_in_encoder():
    assert is_builtin("builtin")
    assert is_builtin("builtin:mobilebert-small")
    assert not is_builtin("./builtin")
    assert builtin_change("/models/encoder", FIRST_SMALL) is None


def test_the_small_encoder_of_the_first_version_is_recognised(fingerprints):
    small = fingerprints["mobilebert-small"]
    assert builtin_change("builtin:mobilebert-small", FIRST_SMALL) == (
        "the built-in encoder changed: it was mobilebert-small of textclf 0.1 (SHA-256 63fc8013…), and "
        f"`builtin:mobilebert-small` is now mobilebert-small (SHA-256 {small[:8]}…)"
    )


def test_the_encoders_before_their_second_training_are_recognised():
    assert "it was mobilebert-small before its second training" in builtin_change(
        "builtin:mobilebert-small", SECOND_SMALL
    )
    assert "it was mobilebert-medium before its second training" in builtin_change("builtin", FIRST_MEDIUM)


def test_another_encoder_of_the_package_or_of_another_version_is_named_as_what_it_is(fingerprints):
    said = builtin_change("builtin:mobilebert-small", fingerprints["mobilebert-medium"])
    assert f"it was mobilebert-medium (SHA-256 {fingerprints['mobilebert-medium'][:8]}…), and" in said
    assert "it was another one (SHA-256 abababab…), and `builtin` is now" in builtin_change("builtin", "ab" * 32)
    assert builtin_change("builtin:gone", "ab" * 32).endswith("and `builtin:gone` is now not part of this version")
