"""The file of a question answerer: its graph computes two logits a token, and its metadata are what runtimes ask for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from tests.encoders.test_mobilebert import token_arrays
from tests.model_files import stored_types
from tests.tflite.test_checks import packed, unpacked
from tests.tiny import VOCABULARY, tiny_checkpoint
from textclf.data.tokens.encoded import Encoded, Tokens
from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.encoders.mobilebert import Encoder
from textclf.errors import ModelError
from textclf.tflite.checks import structure_problems
from textclf.tflite.format import metadata_schema as schema
from textclf.tflite.format.flatbuffer import FlatTable, Table
from textclf.tflite.format.metadata_parts import feature
from textclf.tflite.graph.mobilebert import ClassifierWeights
from textclf.tflite.graph.question_answering import SPAN_LOGITS
from textclf.tflite.graph.weights import token_weights
from textclf.tflite.metadata import read_metadata, write_metadata
from textclf.tflite.model_file import TfliteModel
from textclf.tflite.question_answering import QuestionAnswererMetadata, output_problems

LENGTH = 40
FORMS = [
    ("none", "litert", 1e-5),
    ("none", "task-library", 1e-5),
    ("float16", "task-library", 2e-3),
    ("dynamic", "litert", 0.05),
    ("dynamic", "task-library", 0.05),
    ("int4", "litert", 0.3),
]
VARIANTS = [
    {},
    {"use_bottleneck_attention": True, "key_query_shared_bottleneck": False},
    {"key_query_shared_bottleneck": False},
    {"classifier_activation": True},
    {"num_hidden_layers": 1},
]


def head_of(width: int, *, alike: bool = False) -> dict[str, np.ndarray]:
    """A head of two columns, with features standardised for the first token and for the others, or not at all."""
    random = np.random.default_rng(7)
    mean, scale = random.normal(0, 0.3, (2, width)), random.uniform(0.5, 1.5, (2, width))
    head = {
        "head/kernel": random.normal(0, 0.1, (width, 2)),
        "head/bias": np.array([0.3, -0.2]),
        "features/mean": np.zeros((2, width)) if alike else mean,
        "features/scale": np.ones((2, width)) if alike else scale,
    }
    return {name: array.astype(np.float32) for name, array in head.items()}


def expected_logits(checkpoint: EncoderCheckpoint, head: dict[str, np.ndarray], tokens: Tokens) -> np.ndarray:
    states = Encoder(checkpoint).encode(*tokens).sequence_output
    which = np.minimum(np.arange(states.shape[1]), 1)
    features = (states - head["features/mean"][which]) * head["features/scale"][which]
    return features @ head["head/kernel"] + head["head/bias"]


def rows_of(tokens: Tokens) -> Encoded:
    lengths = tokens.mask.sum(axis=1)
    flat = tokens.ids[tokens.mask == 1]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Encoded(flat, offsets, np.full(len(lengths), 8, np.int32), np.zeros(len(lengths), bool), 0)


def weights_of(checkpoint: EncoderCheckpoint, *, alike: bool = False) -> ClassifierWeights:
    return token_weights(checkpoint, head_of(checkpoint.width, alike=alike), SPAN_LOGITS)


def run(content: bytes, tokens: Tokens) -> np.ndarray:
    """The logits float32 [rows, length, 2] of a file, resized where the tokens are shorter; the start comes first."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    inputs = {detail["name"]: detail["index"] for detail in interpreter.get_input_details()}
    for index in inputs.values():
        interpreter.resize_tensor_input(index, [1, tokens.ids.shape[1]])
    interpreter.allocate_tensors()
    outputs = {detail["name"]: detail["index"] for detail in interpreter.get_output_details()}
    rows = []
    for row in range(len(tokens.ids)):
        for name, array in zip(("ids", "mask", "segment_ids"), tokens, strict=True):
            interpreter.set_tensor(inputs[name], array[row : row + 1])
        interpreter.invoke()
        rows.append(np.stack([interpreter.get_tensor(outputs[name])[0] for name in ("start_logits", "end_logits")], -1))
    return np.array(rows)


def described(graph: bytes, **settings: object) -> bytes:
    return write_metadata(
        graph,
        name="answers",
        vocabulary=VOCABULARY,
        task=QuestionAnswererMetadata(),
        settings={"version": 1, **settings},
    )


@pytest.fixture(scope="module")
def file() -> bytes:
    return described(weights_of(tiny_checkpoint()).graph(LENGTH, "dynamic", "litert", None))


@pytest.mark.parametrize(("form", "compatibility", "tolerance"), FORMS)
@pytest.mark.parametrize("mask_convention", ["additive", "scaled"])
def test_every_form_computes_the_logits_of_the_encoder_at_its_length_and_at_a_shorter_one(
    form, compatibility, tolerance, mask_convention
):
    checkpoint = tiny_checkpoint(mask_convention=mask_convention)
    rows = rows_of(token_arrays(20, LENGTH, padding=3))
    content = weights_of(checkpoint).graph(LENGTH, form, compatibility, rows)
    for tokens in (token_arrays(3, LENGTH, padding=9), token_arrays(3, LENGTH), token_arrays(3, 17, padding=2)):
        expected = expected_logits(checkpoint, head_of(checkpoint.width), tokens)
        assert expected.std() > 0.1
        found = run(content, tokens)
        kept = tokens.mask == 1
        np.testing.assert_allclose(found[kept], expected[kept], atol=tolerance)


@pytest.mark.parametrize("changes", VARIANTS)
def test_every_kind_of_encoder_has_logits_for_every_token(changes):
    checkpoint, tokens = tiny_checkpoint(**changes), token_arrays(2, LENGTH, padding=4)
    content = weights_of(checkpoint, alike=True).graph(LENGTH, "none", "litert", None)
    expected = expected_logits(checkpoint, head_of(checkpoint.width, alike=True), tokens)
    np.testing.assert_allclose(run(content, tokens), expected, atol=1e-5)


def test_a_head_that_reads_all_tokens_alike_needs_no_product_for_the_first():
    checkpoint = tiny_checkpoint()
    names = [
        [operator.name for operator in TfliteModel(weights.graph(LENGTH, "none", "litert", None)).operators]
        for weights in (weights_of(checkpoint, alike=True), weights_of(checkpoint))
    ]
    assert [("CONCATENATION" in operators) for operators in names] == [False, True]
    assert names[1].count("FULLY_CONNECTED") == names[0].count("FULLY_CONNECTED") + 1


def test_the_last_layer_and_the_head_are_stored_as_the_form_says():
    checkpoint = tiny_checkpoint()
    rows = rows_of(token_arrays(20, LENGTH, padding=3))
    float32 = {
        form: stored_types(weights_of(checkpoint).graph(LENGTH, form, "litert", rows)) for form in ("dynamic", "int4")
    }
    # The head, and the head for the first token.
    assert float32["dynamic"]["float32"] == float32["int4"]["float32"] == 2
    assert float32["int4"]["int4"] > 10


def test_the_metadata_are_those_of_model_makers_question_answerers(file):
    metadata = read_metadata(file)
    assert (metadata.input_names, metadata.output_names) == (
        ("ids", "mask", "segment_ids"),
        ("end_logits", "start_logits"),
    )
    assert metadata.output_tensors == ("end_logits", "start_logits")
    assert (metadata.labels, metadata.tokenizer, metadata.tokenizer_at_graph) == ((), "bert", True)
    assert metadata.min_parser_version == "1.1.0"
    assert metadata.vocabulary == tuple(VOCABULARY)
    assert set(metadata.files) == {"vocab.txt", "textclf.json"}
    root = FlatTable.root(TfliteModel(file).metadata_buffer, schema.METADATA_IDENTIFIER)
    graph = root.tables(schema.ModelMetadata.SUBGRAPH_METADATA)[0]
    described = [
        table.text(schema.TensorMetadata.DESCRIPTION)
        for field in (schema.SubgraphMetadata.INPUT_TENSOR_METADATA, schema.SubgraphMetadata.OUTPUT_TENSOR_METADATA)
        for table in graph.tables(field)
    ]
    assert described == [
        "Tokenized ids of input text.",
        "Mask with 1 for real tokens and 0 for padding tokens.",
        "0 for the first sequence, 1 for the second sequence if exists.",
        "logits over the sequence which indicates the end position of the answer span with closed interval.",
        "logits over the sequence which indicates the start position of the answer span with closed interval.",
    ]
    assert structure_problems(file, vocabulary=VOCABULARY, output_problems=output_problems) == []


def test_a_graph_with_other_names_in_another_order_is_described_as_it_is(file):
    metadata = QuestionAnswererMetadata.of(
        [
            replace(tensor, name=name)
            for tensor, name in zip(TfliteModel(file).outputs, ("call:1", "call:0"), strict=True)
        ],
        {"call:0": "end_logits", "call:1": "start_logits"},
    )
    assert metadata.names == ("start_logits", "end_logits")
    with pytest.raises(ModelError, match="expected end_logits and start_logits"):
        metadata.check_outputs(TfliteModel(file).outputs)
    unknown = QuestionAnswererMetadata.of(TfliteModel(file).outputs, {"end_logits": "start_logits"})
    with pytest.raises(ModelError, match="expected end_logits and start_logits"):
        unknown.check_outputs(TfliteModel(file).outputs)


class Swapped(QuestionAnswererMetadata):
    """Says of the first output that it is the start."""

    def output_tables(self) -> list[Table]:
        return super().output_tables()[::-1]


class Renamed(QuestionAnswererMetadata):
    """Names the outputs as TensorFlow's models do."""

    def output_tables(self) -> list[Table]:
        return [feature(name, "") for name in ("end_positions", "start_positions")]


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        (
            Swapped(),
            "the metadata call the output tensor end_logits start_logits: starts and ends of answers are swapped",
        ),
        (
            Renamed(),
            "'end_positions', 'start_positions'; without ones named end_logits and start_logits the Task Library",
        ),
    ],
)
def test_metadata_that_swap_or_rename_the_outputs_are_reported(task, problem):
    graph = weights_of(tiny_checkpoint()).graph(LENGTH, "none", "litert", None)
    content = write_metadata(graph, name="answers", vocabulary=VOCABULARY, task=task)
    assert problem in "\n".join(structure_problems(content, output_problems=output_problems))


def test_outputs_in_another_order_are_refused():
    model = unpacked(weights_of(tiny_checkpoint()).graph(LENGTH, "none", "litert", None))
    outputs = [model.subgraphs[0].tensors[index] for index in model.subgraphs[0].outputs]
    outputs[0].name, outputs[1].name = outputs[1].name, outputs[0].name
    with pytest.raises(ModelError, match=r"are start_logits \[1, 40\], end_logits \[1, 40\]; expected end_logits and"):
        described(packed(model))


def test_a_file_for_the_task_library_must_have_its_length():
    encoder = tiny_checkpoint(max_position_embeddings=384)
    short = described(weights_of(encoder).graph(LENGTH, "dynamic", "task-library", None), compatibility="task-library")
    [problem] = structure_problems(short, output_problems=output_problems)
    assert "the Task Library writes [1, 384] into each" in problem
    long = described(weights_of(encoder).graph(384, "dynamic", "task-library", None), compatibility="task-library")
    assert structure_problems(long, output_problems=output_problems) == []


def test_a_classifier_is_no_question_answerer(file):
    from tests.tflite.test_inference_graph import classifier_weights
    from textclf.tflite.graph.mobilebert import build_inference_graph

    graph = build_inference_graph(classifier_weights(tiny_checkpoint()), LENGTH, "none")
    with pytest.raises(
        ModelError, match=r"the model's outputs are probability \[1, 3\]; expected end_logits and start_logits"
    ):
        described(graph)
    assert any("2 outputs, expected one of probabilities" in problem for problem in structure_problems(file))
