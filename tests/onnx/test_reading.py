"""Which ONNX files textclf opens: those that it wrote, and no file that was changed or that another program wrote."""

from __future__ import annotations

import pickle

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.onnx.test_graphs import LABELS, written
from tests.tflite.test_inference_graph import classifier_weights
from tests.tiny import tiny_checkpoint
from textclf.classify.classifier import Classifier
from textclf.errors import ModelError


@pytest.fixture(scope="module")
def content() -> bytes:
    return written(classifier_weights(tiny_checkpoint()), "dynamic")


def opened(content: bytes, folder) -> Classifier:
    path = folder / "model.onnx"
    path.write_bytes(content)
    return Classifier(path, num_threads=1)


def test_a_classifier_reads_an_onnx_file_and_can_be_pickled(content, tmp_path):
    texts = ["good", "a bad day", ""]
    with opened(content, tmp_path) as classifier:
        predictions = classifier.classify(texts)
        copy = pickle.loads(pickle.dumps(classifier))
    assert predictions[2].error.startswith("empty")
    assert set(predictions[0].scores) == set(LABELS)
    assert sum(predictions[0].scores.values()) == pytest.approx(1)
    assert copy.classify(texts) == predictions


def changed(content: bytes, change) -> bytes:
    model = onnx.load_model_from_string(content)
    change(model)
    return model.SerializeToString()


def _foreign_operation(model):
    model.graph.node.append(helper.make_node("Expand", ["probability", "probability"], ["other"]))


def _foreign_domain(model):
    model.graph.node[0].domain = "com.example"


def _data_in_other_files(model):
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def _a_chain_that_grows(model):
    for number in range(40):
        model.graph.node.append(helper.make_node("Concat", ["probability"] * 2, [f"grown{number}"], axis=0))


def _a_graph_in_an_operation(model):
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("Relu", ["probability"], ["other"], body=body))


def _sparse_weights(model):
    values = numpy_helper.from_array(np.ones(1, "float32"), "values")
    indices = numpy_helper.from_array(np.zeros(1, "int64"), "indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [5]))


def _labels_that_are_no_list(model):
    next(fact for fact in model.metadata_props if fact.key == "labels").value = "{}"


def _settings_that_are_not_json(model):
    next(fact for fact in model.metadata_props if fact.key == "textclf.json").value = "{"


def _another_program(model):
    del model.metadata_props[:]


def _other_labels(model):
    next(fact for fact in model.metadata_props if fact.key == "labels").value = '["bad", "good"]'


def _no_vocabulary(model):
    next(fact for fact in model.metadata_props if fact.key == "vocabulary").value = ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_foreign_operation, "'Expand', which textclf does not write"),
        (_foreign_domain, "'com.example', which textclf does not write"),
        (_data_in_other_files, "data in other files"),
        (_a_chain_that_grows, "'Concat', which textclf does not write"),
        (_a_graph_in_an_operation, "a graph inside an operation"),
        (_sparse_weights, "sparse weights"),
        (_labels_that_are_no_list, "its labels are not a JSON list of texts"),
        (_settings_that_are_not_json, "is not JSON"),
        (_another_program, "is not an ONNX file of textclf"),
        (_other_labels, r"an output is float32 \[1, 3\], expected float32 \[1, 2\]"),
        (_no_vocabulary, r"\[PAD\]"),
    ],
)
def test_a_changed_file_is_refused(content, tmp_path, change, said):
    with pytest.raises(ModelError, match=said):
        opened(changed(content, change), tmp_path).classify(["good"])


@pytest.mark.parametrize("size", [0, 1, 7, 1000, -1])
def test_a_truncated_file_is_refused(content, tmp_path, size):
    with pytest.raises(ModelError):
        opened(content[:size], tmp_path)


def test_what_is_not_a_file_is_refused(tmp_path):
    with pytest.raises(ModelError, match="the model cannot be read"):
        Classifier(tmp_path / "missing.onnx")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(ModelError):
        Classifier(tmp_path / "folder.onnx")
