"""Which runtimes load a file follows from the operations in it, also for files of other programs."""

from __future__ import annotations

from itertools import pairwise

import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.conftest import REPOSITORY
from tests.tflite.test_checks import LABELS, described, packed, unpacked
from tests.tflite.test_inference_graph import LENGTH, classifier_weights
from tests.tiny import VOCABULARY, tiny_checkpoint
from textclf.tflite.graph.mobilebert import build_inference_graph
from textclf.tflite.inspection import inspect_model
from textclf.tflite.metadata import write_metadata
from textclf.tflite.registered_operations import REGISTERED
from textclf.tflite.runtimes import KNOWN_RUNTIMES, ONNX_RUNTIME, loading_lines

EVERYWHERE = {
    "LiteRT": "1.0 and later",
    "TensorFlow Lite": "2.11 and later",
    "tflite-runtime": "2.14",
    "MediaPipe Tasks": "0.10.9 and later",
    "Task Library": "0.4.4",
    "tflite_flutter on Android": "0.10 and later",
    "tflite_flutter on iOS": "0.10 and later",
    "LiteRT.js": "0.2 and later",
    "ONNX Runtime": None,
}


def versions(content: bytes, path) -> dict[str, str | None]:
    path.write_bytes(content)
    found = inspect_model(path).runtimes
    return {
        one.runtime + one.platforms.removeprefix("Flutter") * (one.runtime == "tflite_flutter"): one.versions
        for one in found
    }


def graph_of(quantization: str, compatibility: str = "litert") -> bytes:
    return build_inference_graph(classifier_weights(tiny_checkpoint()), LENGTH, quantization, compatibility)


@pytest.mark.parametrize(
    ("quantization", "compatibility", "changes"),
    [
        # As measured with the runtimes themselves on files of the small built-in encoder.
        (
            "dynamic",
            "litert",
            {
                "TensorFlow Lite": "2.17 and later",
                "tflite-runtime": None,
                "MediaPipe Tasks": "0.10.14 and later",
                "Task Library": None,
                "tflite_flutter on Android": "0.12.1 and later",
                "tflite_flutter on iOS": None,
            },
        ),
        (
            "int4",
            "litert",
            {
                "TensorFlow Lite": "2.18 and later",
                "tflite-runtime": None,
                "MediaPipe Tasks": "1.0 and later",
                "Task Library": None,
                "tflite_flutter on Android": "0.12.1 and later",
                "tflite_flutter on iOS": None,
            },
        ),
        ("dynamic", "task-library", {}),
        ("float16", "litert", {}),
        ("none", "litert", {}),
    ],
)
def test_each_form_loads_in_the_runtimes_in_which_it_was_measured_to(quantization, compatibility, changes, tmp_path):
    content = described(graph_of(quantization, compatibility), quantization=quantization, compatibility=compatibility)
    assert versions(content, tmp_path / "m.tflite") == {**EVERYWHERE, **changes}


def test_the_page_about_apps_says_what_the_files_say(tmp_path):
    page = (REPOSITORY / "docs" / "how-to" / "apps.md").read_text(encoding="utf-8")
    forms = [("dynamic", "litert"), ("dynamic", "task-library"), ("int4", "litert")]
    columns = []
    for quantization, compatibility in forms:
        path = tmp_path / f"{quantization}-{compatibility}.tflite"
        path.write_bytes(described(graph_of(quantization, compatibility)))
        columns.append(inspect_model(path).runtimes)
    for runtimes in zip(*columns, strict=True):
        if runtimes[0].runtime != ONNX_RUNTIME:
            cells = [runtimes[0].runtime, runtimes[0].platforms, *(one.versions or "no" for one in runtimes)]
            assert f"| {' | '.join(cells)} |" in page


def test_a_file_of_another_program_is_judged_by_its_operations(tmp_path):
    model = unpacked(graph_of("none"))
    for code in model.operatorCodes:
        code.version = 13 if code.builtinCode == schema.BuiltinOperator.FULLY_CONNECTED else code.version
    path = tmp_path / "other.tflite"
    path.write_bytes(write_metadata(packed(model), name="x", labels=LABELS, vocabulary=VOCABULARY))
    found = {one.runtime: one for one in inspect_model(path).runtimes}
    assert found["TensorFlow Lite"].versions == "2.18 and later"
    assert found["TensorFlow Lite"].reason == "FULLY_CONNECTED has version 13 (known: up to 12)"
    assert found["Task Library"].reason == "FULLY_CONNECTED has version 13 (known: up to 10)"
    assert found["Task Library"].remedy is None  # textclf did not write it, so it cannot write it otherwise


def test_what_does_not_load_comes_with_the_reason_and_the_command(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(described(graph_of("dynamic"), quantization="dynamic", compatibility="litert"))
    loads, refuses, remedy = loading_lines(inspect_model(path).runtimes)
    assert loads == (
        "Loads in LiteRT from 1.0, TensorFlow Lite from 2.17, MediaPipe Tasks from 0.10.14, tflite_flutter on Android from "
        "0.12.1, LiteRT.js from 0.2"
    )
    assert refuses == (
        "Does not load in tflite-runtime, Task Library, tflite_flutter on iOS, because FULLY_CONNECTED has version 12"
    )
    assert remedy == "For the others: textclf export RUN compatibility=task-library"


def test_every_release_of_a_runtime_is_in_the_table_and_never_knows_less_than_the_one_before():
    for runtime in KNOWN_RUNTIMES:
        known = [REGISTERED[release] for _, release in runtime.releases]
        for older, newer in pairwise(known):
            assert all(newer.get(name, 0) >= version for name, version in older.items()), runtime.name
