"""Which runtimes load a `.tflite`: takes the operations of a file, and returns for each runtime the versions that load it.

What a file needs is read from the file, not from its settings, so the answer is also right for files of other programs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from textclf.tflite.model_file import TfliteModel
from textclf.tflite.registered_operations import REGISTERED

Compatibility = Literal["litert", "task-library"]
"""The runtimes of a file: LiteRT and MediaPipe, or also the Task Library 0.4.4 with its older runtime."""

OPERATION_LIMITS = {
    "LiteRT 2.3": REGISTERED["LiteRT 2.2"],
    "MediaPipe 1.2.2": REGISTERED["LiteRT 2.2"],
    "Task Library 0.4.4": REGISTERED["TensorFlow Lite 2.14"],
}
"""Runtime → operation → highest version."""

RUNTIMES: dict[Compatibility, tuple[str, ...]] = {
    "litert": ("LiteRT 2.3", "MediaPipe 1.2.2"),
    "task-library": ("LiteRT 2.3", "MediaPipe 1.2.2", "Task Library 0.4.4"),
}
"""The runtimes in which a file of each kind must load."""


@dataclass(frozen=True)
class Runtime:
    """A program that loads `.tflite` files.

    `releases` are its versions, the oldest first, each with the release of TensorFlow Lite or LiteRT whose operations it
    registers. A version that is not listed registers what the one before it does. `is_last` says that no version follows.
    `without_int4` are those of these versions that refuse tensors of 4 bits whatever their operations. `answers_questions` is
    False for programs with ready-made tasks that have none for question answering. `source` says where the figures come from.
    """

    name: str
    platforms: str
    releases: tuple[tuple[str, str], ...]
    source: str
    is_last: bool = False
    without_int4: tuple[str, ...] = ()
    answers_questions: bool = True


_TENSORFLOW_RELEASES = tuple((f"2.{minor}", f"TensorFlow Lite 2.{minor}") for minor in range(11, 22))

KNOWN_RUNTIMES = (
    Runtime(
        "LiteRT",
        "Python, Android",
        (
            ("1.0", "LiteRT 1.0"),
            ("1.1", "LiteRT 1.1"),
            ("1.2", "LiteRT 1.2"),
            ("1.3", "LiteRT 1.3"),
            ("2.0", "LiteRT 2.0"),
            ("2.1", "LiteRT 2.1"),
            ("2.1.6", "LiteRT 2.1.6"),
            ("2.2", "LiteRT 2.2"),
        ),
        "measured with ai-edge-litert 1.0.1 to 2.3.0; com.google.ai.edge.litert is built from the same source",
    ),
    Runtime(
        "TensorFlow Lite",
        "Python, Android, iOS",
        _TENSORFLOW_RELEASES,
        "measured with tensorflow-cpu 2.12.1 to 2.21.0; 2.11 follows runtime_version.cc; org.tensorflow:tensorflow-lite and "
        "TensorFlowLiteSwift (up to 2.17) are built from the same source",
    ),
    Runtime(
        "tflite-runtime",
        "Python",
        (("2.14", "TensorFlow Lite 2.14"),),
        "measured with tflite-runtime 2.14.0, the last",
        is_last=True,
    ),
    Runtime(
        "MediaPipe Tasks",
        "Python, Android, iOS, web",
        (
            ("0.10.9", "TensorFlow Lite 2.14"),
            ("0.10.14", "TensorFlow Lite 2.17"),
            ("0.10.35", "LiteRT 1.0"),
            ("1.0", "LiteRT 2.2"),
        ),
        "measured with mediapipe 0.10.9 to 1.2.3 on the versions of FULLY_CONNECTED, DEQUANTIZE and GATHER and on files of every "
        "quantisation, and with @mediapipe/tasks-text 0.10.12 to 1.0.1 in Chromium on the files; the packages for Android and "
        "iOS are built from the same source",
        without_int4=("0.10.9", "0.10.14", "0.10.35"),
        answers_questions=False,
    ),
    Runtime(
        "Task Library",
        "Python, Android, iOS",
        (("0.4.4", "TensorFlow Lite 2.14"),),
        "measured with tflite-support 0.4.4; third_party/tensorflow/version.bzl names TensorFlow of 13 June 2023, between 2.13 "
        "and 2.14",
        is_last=True,
        without_int4=("0.4.4",),
    ),
    Runtime(
        "tflite_flutter",
        "Flutter on Android",
        (("0.10", "TensorFlow Lite 2.11"), ("0.12.1", "LiteRT 1.3")),
        "android/build.gradle of tensorflow/flutter-tflite: TensorFlow Lite 2.11.0 up to 0.11, LiteRT 1.4.0 since 0.12.1 (issues "
        "250 and 308)",
    ),
    Runtime(
        "tflite_flutter",
        "Flutter on iOS",
        (("0.10", "TensorFlow Lite 2.12"),),
        "ios/tflite_flutter.podspec of tensorflow/flutter-tflite: TensorFlowLiteSwift 2.12.0, also in 0.12.1 (issue 308)",
    ),
    Runtime(
        "LiteRT.js",
        "web",
        (("0.2", "LiteRT 1.3"), ("2.0", "LiteRT 2.1"), ("2.5.3", "LiteRT 2.1.6")),
        "measured with @litertjs/core 0.2.1, 2.0.0 and 2.5.3 in Chromium",
    ),
)
"""The runtimes that a model made for phones, browsers or servers may meet, with the operations that they register."""


@dataclass(frozen=True)
class RuntimeSupport:
    """Whether a runtime loads a file.

    `loads` is that of its newest known version, and `versions` names the versions that load it, such as `2.17 and later`; it
    is None if none does. `reason` is why the other versions do not. `remedy` is a command or a setting for those.
    """

    runtime: str
    platforms: str
    loads: bool
    versions: str | None
    reason: str | None
    remedy: str | None
    source: str

    def as_text(self) -> str:
        """Returns `yes, 2.17 and later`, or `no`, with the reason."""
        answer = f"yes, {self.versions}" if self.loads else "no"
        return answer if self.reason is None else f"{answer}{'; older: ' if self.loads else ': '}{self.reason}"


ONNX_RUNTIME = "ONNX Runtime"


def runtime_support(
    model: TfliteModel,
    *,
    answers_questions: bool = False,
    settings: Mapping[str, object] | None = None,
    run: str | Path = "RUN",
) -> list[RuntimeSupport]:
    """Returns for each runtime which of its versions load a file.

    `answers_questions` says that the file has no labels but answers questions. `settings` are the file's, if textclf wrote it:
    then a remedy names the setting with which `run` is exported for the others.
    """
    needs = _needs(model)
    remedy = _remedy(settings, run)
    return [
        *(_support(runtime, needs, answers_questions, remedy) for runtime in KNOWN_RUNTIMES),
        RuntimeSupport(
            ONNX_RUNTIME,
            "servers",
            False,
            None,
            "it reads ONNX files only",
            f"textclf export {run} --to onnx" if settings is not None else None,
            "onnxruntime reads .onnx and .ort files",
        ),
    ]


@dataclass(frozen=True)
class _Needs:
    """The highest version of each operation of a file, its custom operations, and whether it has tensors of 4 bits."""

    versions: Mapping[str, int]
    custom: tuple[str, ...]
    int4: bool


def _needs(model: TfliteModel) -> _Needs:
    versions: dict[str, int] = {}
    for operator in model.operators:
        if not operator.custom:
            versions[operator.name] = max(operator.version, versions.get(operator.name, 0))
    custom = sorted({operator.name for operator in model.operators if operator.custom})
    return _Needs(versions, tuple(custom), any(tensor.type.name == "int4" for tensor in model.tensors))


def _remedy(settings: Mapping[str, object] | None, run: str | Path) -> str | None:
    """Returns how a file of textclf is written for old runtimes, or None if it is, or is not of textclf."""
    if settings is None or settings.get("compatibility") != "litert" or settings.get("engine") == "model-maker":
        return None
    words = ["quantization=dynamic"] if settings.get("quantization") == "int4" else []
    return " ".join(["textclf export", str(run), *words, "compatibility=task-library"])


def _support(runtime: Runtime, needs: _Needs, answers_questions: bool, remedy: str | None) -> RuntimeSupport:
    if answers_questions and not runtime.answers_questions:
        reason = "it has no task that answers questions"
        return RuntimeSupport(runtime.name, runtime.platforms, False, None, reason, None, runtime.source)
    problems = [_problem(runtime, version, REGISTERED[release], needs) for version, release in runtime.releases]
    first = max((index + 1 for index, problem in enumerate(problems) if problem is not None), default=0)
    loads = first < len(problems)
    last_problem = problems[first - 1] if first else None
    return RuntimeSupport(
        runtime.name,
        runtime.platforms,
        loads,
        _versions(runtime, first) if loads else None,
        last_problem,
        remedy if last_problem is not None else None,
        runtime.source,
    )


def _versions(runtime: Runtime, first: int) -> str:
    version = runtime.releases[first][0]
    return version if runtime.is_last else f"{version} and later"


def _problem(runtime: Runtime, version: str, registered: Mapping[str, int], needs: _Needs) -> str | None:
    """Returns why a version of a runtime refuses a file, or None if it loads it."""
    if needs.custom:
        return f"the custom operation {needs.custom[0]} is not known"
    for name, needed in sorted(needs.versions.items()):
        if name not in registered:
            return f"{name} is not known"
        if needed > registered[name]:
            return f"{name} has version {needed} (known: up to {registered[name]})"
    return "tensors of 4 bits are not known" if needs.int4 and version in runtime.without_int4 else None


def loading_lines(found: Iterable[RuntimeSupport]) -> list[str]:
    """Returns in which runtimes a file loads, in which it does not and why, and what to do for those: at most three lines."""
    found = [support for support in found if support.runtime != ONNX_RUNTIME]
    loading = [f"{_name(support)} {_short(support.versions)}" for support in found if support.versions is not None]
    others = [support for support in found if support.versions is None]
    lines = [f"Loads in {', '.join(loading) or 'no known runtime'}"]
    if others:
        names = ", ".join(map(_name, others))
        reasons = dict.fromkeys((support.reason or "").partition(" (")[0] for support in others)
        lines.append(f"Does not load in {names}, because {' and '.join(reasons)}")
    return [*lines, *remedy_lines(found)]


def remedy_lines(found: Iterable[RuntimeSupport]) -> list[str]:
    """Returns at most one line: the command that writes the file for the versions that do not load it."""
    remedies = dict.fromkeys(support.remedy for support in found if support.remedy and support.runtime != ONNX_RUNTIME)
    return [f"For the others: {remedy}" for remedy in remedies]


def _name(support: RuntimeSupport) -> str:
    """Returns the name of a runtime; that of tflite_flutter with its platform, since each has a runtime."""
    return support.runtime + support.platforms.removeprefix("Flutter") * support.platforms.startswith("Flutter")


def _short(versions: str) -> str:
    """Returns `from 1.0` for `1.0 and later`."""
    version, later, _ = versions.partition(" and later")
    return f"from {version}" if later else version
