"""The platforms of `textclf app`: which templates make the app of a model, and whether the platform can use the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from textclf.classify.question_answering.question_answerer import QuestionAnswerer
from textclf.errors import ModelError
from textclf.runs.choices import Platform
from textclf.runs.demo.graph import PageGraph
from textclf.runs.demo.model import OpenedModel, graph_of, tokenizer_facts
from textclf.tflite.model_file import TfliteModel
from textclf.tflite.runtimes import RuntimeSupport, runtime_support

# What the READMEs and the build files say of the libraries of phones.
_LABELLING = {
    "android": {
        "library": "com.google.mediapipe:tasks-text 1.0.0",
        "dependency": "com.google.mediapipe:tasks-text:1.0.0",
    },
    "ios": {"library": "the pod MediaPipeTasksText 1.0.0", "dependency": "'MediaPipeTasksText', '1.0.0'"},
}
_ANSWERING = {
    "android": {
        "library": "tensorflow-lite-task-text 0.4.4",
        "dependency": "org.tensorflow:tensorflow-lite-task-text:0.4.4",
    },
    "ios": {"library": "the pod TensorFlowLiteTaskText 0.4.4", "dependency": "'TensorFlowLiteTaskText', '~> 0.4.4'"},
}


@dataclass(frozen=True)
class Plan:
    """The app of a model for a platform.

    `templates` are folders of templates, copied over each other, `assets` the folder of the app in which model and settings
    are, and `values` what stands for `{{…}}` in them. `notes` say in what the app differs from textclf. An app
    with a `graph` contains this graph for the interpreter in place of the file.
    """

    templates: tuple[str, ...]
    assets: str
    values: Mapping[str, str]
    notes: tuple[str, ...] = ()
    graph: PageGraph | None = None


def plan_of(platform: Platform, model: OpenedModel, source: Path) -> Plan:
    """Returns how the app is made. `source` is the run or file that the user named, for commands in messages.

    Raises ModelError, with the reason and what to do, for a model that the platform cannot use.
    """
    if platform == "python":
        return _python(model, source)
    if platform == "web":
        return _web(model)
    if platform == "flutter":
        return _flutter(model, source)
    return _phone(platform, model, source)


def _python(model: OpenedModel, source: Path) -> Plan:
    tokenizer_facts(model)
    _check_loads(model, source, "LiteRT", "Python")
    if _answers(model):
        use = '`python classify.py "a question" "a text that has the answer"`'
    elif _is_pair(model):
        use = '`python classify.py "a text" "second text"`'
    else:
        use = '`python classify.py "a text"`'
    return Plan(("python",), ".", {"use": use})


def _web(model: OpenedModel) -> Plan:
    tokenizer_facts(model)
    return Plan(("web",), ".", {}, graph=graph_of(model))


def _phone(platform: Platform, model: OpenedModel, source: Path) -> Plan:
    """MediaPipe classifies, and the Task Library answers questions; both tokenize."""
    opened = model.opened
    where = "Android" if platform == "android" else "iOS"
    assets = "app/src/main/assets" if platform == "android" else "."
    if isinstance(opened, QuestionAnswerer):
        if not opened.fits_phones:
            raise ModelError(
                f"{opened.name}: the BertQuestionAnswerer of phones needs a model of 384 tokens with encoder.tokenizer: "
                f"device, but this one reads {opened.max_length}; train it so, or write a python or web app"
            )
        _check_loads(model, source, "Task Library", where)
        notes = ["The app answers as phones do: it reads the beginning of a long text, and returns whole words."]
        if opened.null_bound is not None:
            notes.append(
                'The Task Library always returns an answer if it finds one: the bound for "no answer" is not used.'
            )
        return Plan((platform, f"{platform}-answers"), assets, _ANSWERING[platform], tuple(notes))
    if _is_pair(model):
        raise ModelError(
            f"{opened.name}: classifies pairs of texts, but MediaPipe's TextClassifier reads one; write a flutter, python or "
            "web app (--for)"
        )
    if _tokenizer(model) == "bert":
        raise ModelError(
            f"{opened.name}: was trained with encoder.tokenizer: bert, but MediaPipe's TextClassifier tokenizes as devices "
            "do; train it with encoder.tokenizer: device, or write a python or web app (--for)"
        )
    _check_loads(model, source, "MediaPipe Tasks", where)
    notes = []
    if model.facts["windows"] or model.facts["overflow"] != "head":
        notes.append(
            f"MediaPipe reads the first {opened.max_length} tokens of a long text, so its labels can differ from those of "
            "textclf."
        )
    return Plan((platform, f"{platform}-labels"), assets, _LABELLING[platform], tuple(notes))


def _flutter(model: OpenedModel, source: Path) -> Plan:
    name = model.opened.name
    if _answers(model):
        raise ModelError(
            f"{name}: answers questions, for which the Flutter app has no code; write an android, ios, python or web app "
            "(--for)"
        )
    if _tokenizer(model) == "bert":
        raise ModelError(
            f"{name}: was trained with encoder.tokenizer: bert, which the Flutter app does not have; train it with "
            "encoder.tokenizer: device, or write a python or web app (--for)"
        )
    tokenizer_facts(model)
    _check_loads(model, source, "tflite_flutter", "Flutter on Android")
    on_ios = _support(model, source, "tflite_flutter", "Flutter on iOS")
    notes = () if on_ios.loads else (f"The model does not load in Flutter on iOS: {_reason(on_ios)}.",)
    return Plan(("flutter",), "assets", {}, notes)


def _answers(model: OpenedModel) -> bool:
    return isinstance(model.opened, QuestionAnswerer)


def _is_pair(model: OpenedModel) -> bool:
    return len(model.facts["columns"]) == 2 and not _answers(model)


def _tokenizer(model: OpenedModel) -> str:
    metadata = model.opened.metadata
    kind = "regex" if metadata.tokenizer == "regex" else (metadata.settings or {}).get("tokenizer", "device")
    return str(kind)


def _check_loads(model: OpenedModel, source: Path, runtime: str, platform: str) -> None:
    found = _support(model, source, runtime, platform)
    if not found.loads:
        raise ModelError(f"{model.opened.name}: does not load in {runtime} on {platform}: {_reason(found)}")


def _support(model: OpenedModel, source: Path, runtime: str, platform: str) -> RuntimeSupport:
    found = runtime_support(
        TfliteModel(model.content, model.opened.name),
        answers_questions=_answers(model),
        settings=model.opened.metadata.settings,
        run=source if source.is_dir() else "RUN",
    )
    return next(one for one in found if one.runtime == runtime and platform in one.platforms)


def _reason(support: RuntimeSupport) -> str:
    return f"{support.reason}; {support.remedy} writes a file that does" if support.remedy else str(support.reason)
