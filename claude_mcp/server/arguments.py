"""What tools take, as pydantic models whose wire names are in camelCase.

Unknown names are refused, because a misspelled option that is ignored does harm unseen. Error
messages never repeat a value: it may be a secret.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin, get_type_hints

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from claude_mcp.contract.messages import key
from claude_mcp.errors import UsageError
from claude_mcp.sessions.option import options


class Arguments(BaseModel):
    model_config = ConfigDict(alias_generator=key, extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: Any) -> Any:
        """Some hosts send null for every argument that the model left out."""
        if not isinstance(values, dict):
            return values
        names = {field.alias for field in cls.model_fields.values()}
        return {
            name: value for name, value in values.items() if value is not None or name not in names
        }


def _from_text(value: Any) -> Any:
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


FROM_TEXT: Final = BeforeValidator(_from_text)
"""Some hosts pass objects and lists as JSON text."""

SessionId = Annotated[str, Field(description="Session id, prefix or name.")]

WAIT_SECONDS: Final = 45.0
"""Many clients give up on a call after 60 s."""
WaitSeconds = Annotated[
    float,
    Field(ge=0, le=86_400, description="Then answer 'running'; the turn continues."),
]


def declared(request: type[Any], shapes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The fields of an ``Arguments`` model for the options that ``request`` declares.

    ``shapes`` gives the wire types of fields that have another form there than in the request.
    """
    hints = get_type_hints(request)
    defaults = {each.name: each.default for each in fields(request)}
    factories = {each.name: each.default_factory for each in fields(request)}
    model: dict[str, Any] = {}
    for name, option in options(request):
        shape = (shapes or {}).get(name) or _listed(hints[name])
        required = defaults[name] is MISSING and factories[name] is MISSING
        # Any other default than a plain value means "not given", as null does on the wire.
        plain = isinstance(defaults[name], (bool, int, float, str))
        model[name] = (
            shape if required or plain else shape | None,
            Field(
                ... if required else defaults[name] if plain else None,
                alias=option.argument or key(name),
                description=f"{option.text[:1].upper()}{option.text[1:]}.",
                ge=option.minimum,
                gt=option.above,
            ),
        )
    return model


def _listed(hint: Any) -> Any:
    """The type with a list in place of a tuple, which JSON does not have."""
    for each in (hint, *get_args(hint)):
        if get_origin(each) is tuple:
            return Annotated[list[get_args(each)[0]], FROM_TEXT]  # type: ignore[misc]
    return hint


def given(arguments: Arguments, request: type[Any]) -> dict[str, Any]:
    """What a caller gave for the options of ``request``; for the rest its own defaults apply."""
    values = {name: getattr(arguments, name) for name, _ in options(request)}
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if value is not None
    }


A = TypeVar("A", bound=Arguments)


def parse(model: type[A], arguments: dict[str, Any] | None) -> A:
    """Check a tool's arguments.

    Raises:
        UsageError: names every problem in one message.
    """
    try:
        return model.model_validate(arguments or {})
    except ValidationError as error:
        problems = [_problem(model, each) for each in error.errors(include_input=False)]
        raise UsageError(
            f"Nothing was done: {'; '.join(problems)}.", hint=f"It takes {_names(model)}."
        ) from None


def _names(model: type[Arguments]) -> str:
    names = [
        f"{field.alias} (required)" if field.is_required() else str(field.alias)
        for field in model.model_fields.values()
    ]
    return ", ".join(names) or "no arguments"


def _problem(model: type[Arguments], error: Any) -> str:
    location = ".".join(str(part) for part in error["loc"])
    match error["type"]:
        case "missing":
            return f"{location} is missing"
        case "extra_forbidden":
            fields = _model_at(model, error["loc"][:-1]).model_fields.values()
            name = key(str(error["loc"][-1])[:80])
            near = difflib.get_close_matches(name, [str(field.alias) for field in fields], n=1)
            question = f", did you mean {near[0]}" if near else ""
            return f"there is no argument {location[:120]!r}{question}"
        case _:
            message = str(error["msg"])
            return f"{location}: {message[:1].lower()}{message[1:]}"


def _model_at(model: type[Arguments], location: tuple[str | int, ...]) -> type[Arguments]:
    """The model of the nested object at ``location``, below the aliases and list indexes."""
    for part in location:
        for field in model.model_fields.values():
            if field.alias == part:
                model = next(_models(field.annotation), model)
    return model


def _models(annotation: Any) -> Iterator[type[Arguments]]:
    """The models in a type such as ``list[Annotated[MountArguments, ...]] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, Arguments):
        yield annotation
    for each in get_args(annotation):
        yield from _models(each)
