"""Stand-ins for what only a server knows: objects of the server's own types, of which some values are unknown.

An unknown value is a text between two marks, so that it is found again in whatever a template makes of it.
"""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import Enum
from types import NoneType
from typing import Any, Literal, get_args, get_origin
from uuid import UUID

from pydantic import BaseModel

from .known_events import ID, UNKNOWN_TEXT
from .prefect_server import NATIVE, ReceivedEvent, Resource

UNKNOWN = "\ue002{}\ue003"
"""Around a value of which not even the type is known."""
OF_ANY_TYPE = re.compile("\ue002([^\ue003]*)\ue003")
ANY_MARK = re.compile("[\ue000\ue002]([^\ue001\ue003]*)[\ue001\ue003]")


TEXT_METHODS = frozenset(name for name in dir(str) if not name.startswith("_"))


class Unknown(str):
    """A value that only the server knows: whatever is done with it is unknown, too."""

    def __new__(cls, name: str) -> "Unknown":
        made = super().__new__(cls, UNKNOWN.format(name))
        made.__dict__["name"] = name
        return made

    def __getattribute__(self, key: str) -> Any:
        if key in TEXT_METHODS:  # `.upper()` would change the marks.
            return lambda *_, **__: Unknown(f"{self.__dict__['name']}.{key}()")
        return super().__getattribute__(key)

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__") or key in ("unsafe_callable", "alters_data", "jinja_pass_arg"):  # Asked by jinja.
            raise AttributeError(key)
        return Unknown(f"{self.__dict__['name']}.{key}")

    def __getitem__(self, key: Any) -> Any:
        return Unknown(f"{self.__dict__['name']}[{key}]")

    def __call__(self, *_: Any, **__: Any) -> Any:
        return Unknown(f"{self.__dict__['name']}()")

    def __iter__(self) -> Iterator[Any]:
        return iter([Unknown(f"{self.__dict__['name']}[0]")])

    def __int__(self) -> int:
        return 1

    def __float__(self) -> float:
        return 1.0

    def _same(self, *_: Any) -> Any:
        return self

    def _yes(self, *_: Any) -> bool:
        return True

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __floordiv__ = __mod__ = _same
    __lt__ = __le__ = __gt__ = __ge__ = _yes


class UnknownMapping(dict[str, Any]):
    """A mapping of which only the server knows the keys."""

    def __init__(self, name: str, *known: Any) -> None:
        super().__init__(*known)
        self._name = name

    def __missing__(self, key: str) -> Unknown:
        return Unknown(f"{self._name}.{key}")

    def get(self, key: str, default: Any = None) -> Any:
        return self[key]


def stand_in(model: type[BaseModel], name: str, now: datetime, depth: int = 2) -> BaseModel:
    """An object of the model, with a value of its type in each field."""
    values: dict[str, Any] = {
        key: ID if key == "id" else example(field.annotation, f"{name}.{key}", now, depth)
        for key, field in model.model_fields.items()
    }
    return model.model_construct(None, **values)


def example(annotation: Any, name: str, now: datetime, depth: int) -> Any:
    """A value of an annotation's first type that is not None."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return arguments[0]
    if origin in (dict, UnknownMapping):
        return UnknownMapping(name)
    if origin in (list, set, tuple):
        return [example(arguments[0], f"{name}[0]", now, depth)] if arguments else []
    if arguments:  # A union, or a type with what pydantic needs besides.
        return next((example(part, name, now, depth) for part in arguments if is_type(part)), Unknown(name))
    return of_class(annotation, name, now, depth) if isinstance(annotation, type) else Unknown(name)


def is_type(part: Any) -> bool:
    """Whether a part of an annotation is a type other than None."""
    return part is not NoneType and (isinstance(part, type) or get_origin(part) is not None)


def of_class(kind: type, name: str, now: datetime, depth: int) -> Any:
    """A value of a class."""
    if issubclass(kind, BaseModel):
        return stand_in(kind, name, now, depth - 1) if depth else Unknown(name)
    if issubclass(kind, Enum):
        return next(iter(kind))
    if issubclass(kind, dict):
        return UnknownMapping(name)
    if issubclass(kind, datetime):
        return now
    simple: dict[type, Any] = {
        bool: True,
        int: 1,
        float: 1.0,
        UUID: ID,
        timedelta: timedelta(seconds=1),
        str: UNKNOWN_TEXT.format(name),
        list: [],
        set: [],
    }
    return simple.get(kind, Unknown(name))


def native_objects(event: ReceivedEvent) -> dict[str, Any]:
    """What the server looks up for a template: None where the event is about no such thing, as the server has it."""
    found: dict[str, Any] = {}
    for name, model in NATIVE.items():
        kind = f"prefect.{name.replace('_', '-')}"
        resource = next((each for each in event.involved_resources if each.id.rpartition(".")[0] == kind), None)
        found[name] = None
        if resource is not None:
            found[name] = stand_in(model, name, event.occurred)
            found[name].__dict__.update(as_event_says(found[name], resource))
    return found


def as_event_says(stand_in: Any, resource: Resource) -> dict[str, Any]:
    """The id, name and state that the labels of an event give: the server, too, takes the state from them."""
    said: dict[str, Any] = {}
    identifier = resource.id.rpartition(".")[2]
    if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", identifier):
        said["id"] = UUID(identifier)
    if called := resource.get("prefect.resource.name"):
        said["name"] = called
    state = getattr(stand_in, "state", None)
    if isinstance(state, BaseModel):
        labels = {key: resource.get(f"prefect.state-{key}") for key in ("name", "message")}
        state.__dict__.update({key: value for key, value in labels.items() if value is not None})
    return said


def unknown_names(value: Any) -> list[str]:
    """What of a rendered value not even the type is known of."""
    return sorted({name for text in texts_of(value) for name in OF_ANY_TYPE.findall(text)})


def is_unknown(value: Any) -> bool:
    """Whether some of a rendered value is known only to the server."""
    return any(ANY_MARK.search(text) for text in texts_of(value))


def readable(text: str) -> str:
    """A text with `<flow_run.name>` where a value is unknown."""
    return ANY_MARK.sub(r"<\1>", text)


def texts_of(value: Any) -> Iterator[str]:
    """Every text within a value."""
    if isinstance(value, str):
        yield str.__str__(value)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from texts_of(key)
            yield from texts_of(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts_of(inner)
