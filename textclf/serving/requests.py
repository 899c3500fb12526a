"""What a body may contain: a schema for each kind of model, and the problems of a body that does not fit it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Annotated, Any, NamedTuple, Union

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag, TypeAdapter, ValidationError
from pydantic import create_model as new_model

from textclf.serving.limits import Limits

_MOST_PROBLEMS = 10

# A body of a million bytes can have a hundred thousand problems.
_MOST_READ = 100

_LONGEST_NAME = 80

_STRICT = ConfigDict(extra="forbid", strict=True)

_KINDS: dict[type, str] = {
    str: "a string",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


class Problem(NamedTuple):
    """One problem of a request: its place, what is wrong there, and what is expected."""

    where: str
    problem: str
    expected: str


class BadBodyError(Exception):
    """A body that does not fit its schema."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(f"{len(problems)} problems")
        self.problems = problems


class BodySchema:
    """The schema of a body: an object with one text (`one`), or one with many under the key `many_key`.

    `item` says what one element of the list is, for messages.
    """

    def __init__(self, one: type[BaseModel], many: type[BaseModel], many_key: str, item: str) -> None:
        def kind_of(body: Any) -> str:
            return "many" if isinstance(body, dict) and many_key in body else "one"

        self.one = one
        self.many = many
        self.many_key = many_key
        self._item = item
        either: Any = Union[Annotated[one, Tag("one")], Annotated[many, Tag("many")]]  # noqa: UP007
        both: Any = Annotated[either, Discriminator(kind_of)]
        self._adapter: TypeAdapter[Any] = TypeAdapter(both)

    def read(self, body: bytes) -> BaseModel:
        """Returns what a body contains. Raises BadBodyError with its first problems."""
        try:
            content: BaseModel = self._adapter.validate_json(body)
        except ValidationError as error:
            raise BadBodyError(self._problems(error)) from None
        return content

    def json_schemas(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the JSON Schema of a body for OpenAPI, and the schemas to which it refers by name."""
        schema = self._adapter.json_schema(ref_template="#/components/schemas/{model}")
        return schema, schema.pop("$defs")

    def _problems(self, error: ValidationError) -> list[Problem]:
        found: dict[tuple[str | int, ...], Problem] = {}
        names = {*self.one.model_fields, *self.many.model_fields}
        for one in error.errors(include_url=False)[:_MOST_READ]:
            branch, *place = one["loc"] or ("one",)
            model = self.many if branch == "many" else self.one
            # Behind the name of a key, pydantic also names the alternatives of a union.
            known = tuple(part for part in place if isinstance(part, int) or part in names)
            if one["type"] == "extra_forbidden":
                known = tuple(place)
            found.setdefault(known, self._problem(model, known, one))
        # Where a pair is wrong inside, it is not also wrong that it is no string.
        deepest = [place for place in found if not any(other[: len(place)] == place != other for other in found)]
        return [found[place] for place in deepest][:_MOST_PROBLEMS]

    def _problem(self, model: type[BaseModel], place: Sequence[str | int], error: Any) -> Problem:
        where = "body"
        for part in place:
            where += f"[{part}]" if isinstance(part, int) else f".{part[:_LONGEST_NAME]}"
        if error["type"] == "extra_forbidden":
            keys = ", ".join((model if len(place) == 1 else self.one).model_fields)
            return Problem(where, "is an unknown key", f"only the keys {keys}")
        return Problem(where, _what(error), self._expected(model, place))

    def _expected(self, model: type[BaseModel], place: Sequence[str | int]) -> str:
        if not place:
            first = ", ".join(name for name, field in self.one.model_fields.items() if field.is_required())
            return f"a JSON object with the key {self.many_key}, or with {first}"
        if len(place) == 1:
            return str(model.model_fields[str(place[0])].description)
        return self._item if len(place) == 2 else "a string"


def _what(error: Mapping[str, Any]) -> str:
    kind, context, given = error["type"], error.get("ctx", {}), error["input"]
    if kind == "json_invalid":
        return f"is not JSON ({context['error']})"
    if kind == "missing":
        return "is missing"
    if kind in ("string_too_long", "too_long", "too_short") and isinstance(given, str | list):
        return f"has {len(given):,} {'characters' if isinstance(given, str) else 'elements'}"
    if kind in ("greater_than_equal", "less_than_equal", "finite_number"):
        return f"is {given}"
    return f"is {_KINDS.get(type(given), 'something else')}"


# --- The bodies of each kind of model --------------------------------------------------------------------------------
def classification_body(widths: Set[int], limits: Limits) -> BodySchema:
    """Returns the schema for `/classify`. `widths` are the numbers of strings that a text may have: 1, 2 or both."""
    string: Any = _string(limits)
    pair: Any = Annotated[list[string], Field(min_length=2, max_length=2)]
    text: Any
    if widths == {1}:
        text, item = string, f"a string of at most {limits.max_characters:,} characters"
    elif widths == {2}:
        text, item = pair, f"a list of two strings of at most {limits.max_characters:,} characters"
    else:
        text = string | pair
        item = f"a string of at most {limits.max_characters:,} characters, or a list of two"
    options: dict[str, Any] = {
        "reject_below": (
            Annotated[float, Field(ge=0, le=1)],
            Field(None, description="a number from 0 to 1: no label is returned below this probability"),
        ),
        "scores": (bool, Field(False, description="true or false: whether to return the probability of every label")),
    }
    texts: Any = Annotated[list[text], Field(min_length=1, max_length=limits.max_texts)]
    listed = f"a list of 1 to {limits.max_texts:,} texts, each {item}"
    return BodySchema(
        new_model("ClassifyText", __config__=_STRICT, text=(text, Field(description=item)), **options),
        new_model("ClassifyTexts", __config__=_STRICT, texts=(texts, Field(description=listed)), **options),
        "texts",
        item,
    )


def answering_body(limits: Limits) -> BodySchema:
    """Returns the schema for `/answer`."""
    string = _string(limits)
    described = f"a string of at most {limits.max_characters:,} characters"
    fields: dict[str, Any] = {
        "question": (string, Field(description=described)),
        "context": (string, Field(description=f"{described}: the text that may contain the answer")),
    }
    item = "an object with the strings question and context"
    question = new_model("Question", __config__=_STRICT, **fields)
    questions = Annotated[list[question], Field(min_length=1, max_length=limits.max_texts)]  # type: ignore[valid-type]
    listed = f"a list of 1 to {limits.max_texts:,} questions, each {item}"
    return BodySchema(
        new_model("AnswerQuestion", __config__=_STRICT, **fields),
        new_model("AnswerQuestions", __config__=_STRICT, questions=(questions, Field(description=listed))),
        "questions",
        item,
    )


def _string(limits: Limits) -> Any:
    return Annotated[str, StringConstraints(max_length=limits.max_characters)]
