"""A finished run is written as an ONNX file, through the command, and the file predicts what the run predicts."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from tests.answering import write_question_recipe
from tests.journeys.test_main_job import run
from tests.tiny import write_recipe
from textclf.classify.question_answering.question_answerer import QuestionAnswerer
from textclf.data.tokens.encoded import pad
from textclf.errors import RunError
from textclf.exporting.trained_run import load_trained_run
from textclf.onnx.running import OnnxModel
from textclf.runs.export import export_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    assert run("train", write_recipe(folder, epochs=6), "encoder.max_length=auto", "--run-dir", folder / "run") == 0
    return folder / "run"


def test_a_run_is_written_for_onnx_and_compared_with_the_trained_model(finished, capsys):
    assert run("export", finished, "--to", "onnx") == 0
    said = capsys.readouterr()
    assert "model-dynamic.onnx: verified" in said.out
    assert "compared with the trained model: 0 of 92 predictions changed" in said.out
    facts = {fact.key: fact.value for fact in onnx.load(finished / "model-dynamic.onnx").metadata_props}
    assert json.loads(facts["labels"]) == ["bad", "good"]
    settings = json.loads(facts["textclf.json"])
    assert settings["text"] == ["review"]
    assert "compatibility" not in settings
    assert run("export", finished, "--to", "onnx") == 2
    assert "exists already" in capsys.readouterr().err
    assert run("export", finished, "--to", "onnx", "--force") == 0


def test_float_weights_give_the_probabilities_of_the_trained_model(finished, tmp_path):
    path, report = export_run(finished, ["quantization=none"], tmp_path / "model.onnx", to="onnx")
    assert report.parity is not None
    assert report.parity.largest_difference < 1e-5
    trained = load_trained_run(finished)
    texts = trained.dataset().validation.texts[:1]
    encoded = trained.encode(texts)
    tokens = pad(encoded, [0], int(encoded.lengths[0]) + 1)
    found = OnnxModel(path.read_bytes()).run(tokens)["probability"]
    assert found == pytest.approx(trained.probabilities(texts), abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["quantization=int4"], "export.quantization is int4, which ONNX files do not have"),
        (["compatibility=task-library"], "ONNX files have no such setting"),
        (["training.epochs=3"], "only the settings in the section export can change"),
    ],
)  # fmt: skip
def test_settings_that_onnx_files_do_not_have_are_refused(finished, tmp_path, capsys, arguments, said):
    assert run("export", finished, *arguments, "--to", "onnx", "-o", tmp_path / "x.onnx") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "x.onnx").exists()


@pytest.mark.parametrize(
    ("to", "name", "said"),
    [
        ("onnx", "model.bin", "an ONNX file needs a name that ends in .onnx"),
        ("onnx", "model.tflite", "an ONNX file needs a name that ends in .onnx"),
        ("tflite", "model.onnx", "but the file will be a .tflite"),
    ],
)
def test_a_name_of_another_kind_of_file_is_refused(finished, tmp_path, capsys, to, name, said):
    assert run("export", finished, "--to", to, "-o", tmp_path / name) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / name).exists()


def test_a_file_of_another_program_is_not_replaced(finished, tmp_path):
    other = tmp_path / "other.onnx"
    other.write_bytes(b"something else")
    with pytest.raises(RunError, match="is not a model of textclf"):
        export_run(finished, [], other, to="onnx", force=True)
    assert other.read_bytes() == b"something else"


def test_a_question_answerer_is_written_for_onnx(tmp_path, capsys):
    recipe = write_question_recipe(tmp_path, questions=60, epochs=1, freeze=2)
    assert run("train", recipe, "export.quantization=none", "--run-dir", tmp_path / "run") == 0
    capsys.readouterr()
    assert run("export", tmp_path / "run", "quantization=none", "--to", "onnx", "-o", tmp_path / "qa.onnx") == 0
    assert "0 of" in capsys.readouterr().out
    outputs = [value.name for value in onnx.load(tmp_path / "qa.onnx").graph.output]
    assert outputs == ["start_logits", "end_logits"]
    question = ("where is the prize", "the prize of red is in the house. " * 12)
    answers = [QuestionAnswerer(model).answer(*question) for model in (tmp_path / "run", tmp_path / "qa.onnx")]
    assert answers[0].text == answers[1].text
    assert answers[0].score == pytest.approx(answers[1].score, abs=0.05)
    assert run("evaluate", tmp_path / "qa.onnx", tmp_path / "test.json") == 0
    assert run("verify", tmp_path / "qa.onnx") == 2
    assert "is an ONNX file" in capsys.readouterr().err
