"""Settings as small frozen dataclasses, each defined where it acts; those of a run are a tree of them.

A field of a ``Section`` is

    a setting     it has a docstring of its own, which is its help; its annotation is its check
    a choice      its value is a section, of one of several kinds that differ by their ``name``
    neither       nobody sets it but code

Settings and choices of a tree have different names. So a tree is a flat mapping as well: the flags of a command line,
the keys of a TOML file, the arguments of ``eqspike.configure``.
"""

import ast
import inspect
import sys
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from eqspike_seq.errors import ConfigError

Made = TypeVar("Made", bound="Section")
Positive = Annotated[int, Field(ge=1)]


class Section:
    """A group of settings, or one kind of a choice; subclasses are frozen dataclasses."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(allow_inf_nan=False, arbitrary_types_allowed=True)
    name: ClassVar[str] = ""  # of the kind, where it is one of a choice

    def check(self) -> None:
        """Raises ConfigError for settings that do not go together; called by ``made``."""


# The kind of section that a field holds under flat settings, None where it holds none, by the field's name.
Kinds = Mapping[str, Callable[[Mapping[str, Any]], type[Section] | None]]


@dataclass(frozen=True)
class Needs:
    """An annotation: the setting acts only under flat settings for which ``holds``; ``needed`` says so in words."""

    needed: str
    holds: Callable[[Mapping[str, Any]], bool]


class PerLayer:
    """An annotation: one value for all hidden layers, or one for each."""


@dataclass(frozen=True)
class Setting:
    """A setting of a section: its type with all annotations, its default (MISSING without one), its help."""

    kind: Any
    default: Any
    help: str

    @property
    def bare(self) -> Any:
        """Its type alone."""
        return get_args(self.kind)[0] if get_origin(self.kind) is Annotated else self.kind

    @property
    def several(self) -> bool:
        """Whether it takes several values."""
        return get_origin(self.bare) is tuple

    @property
    def marks(self) -> tuple[Any, ...]:
        """What annotates it."""
        return get_args(self.kind)[1:] if get_origin(self.kind) is Annotated else ()

    @property
    def needs(self) -> Needs | None:
        """What it needs in order to act."""
        return next((mark for mark in self.marks if isinstance(mark, Needs)), None)


def settings_of(kind: type[Section]) -> dict[str, Setting]:
    """The settings of a kind of section by name, choices and what they hold left out."""
    if kind not in _KNOWN:
        hints, helps = get_type_hints(kind, include_extras=True), _field_docstrings(kind)
        own = [field for field in fields(kind) if field.name in helps]  # type: ignore[arg-type]
        _KNOWN[kind] = {each.name: Setting(hints[each.name], each.default, helps[each.name]) for each in own}
    return _KNOWN[kind]


_KNOWN: dict[type, dict[str, Setting]] = {}


def _field_docstrings(kind: type) -> dict[str, str]:
    """The docstring under each field of a class and its bases."""
    found = {}
    for base in reversed([base for base in kind.__mro__ if issubclass(base, Section) and base is not Section]):
        for field, after in pairwise(_classes_of(base.__module__).get(base.__name__, [])):
            if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr):
                found[field.target.id] = inspect.cleandoc(after.value.value)  # type: ignore[union-attr, attr-defined]
    return found


@cache
def _classes_of(module: str) -> dict[str, list[ast.stmt]]:
    """The bodies of a module's classes by name; none of classes that were typed into a shell."""
    try:
        source = inspect.getsource(sys.modules[module])
    except (OSError, TypeError, KeyError):
        return {}
    return {node.name: node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}


def flat(section: Section) -> dict[str, Any]:
    """All settings that act, and all choices, of a whole tree by name, in the order of their fields."""
    found = dict(_collected(section))
    settings = {name: value for name, (value, _) in found.items()}
    return {name: value for name, (value, needs) in found.items() if needs is None or needs.holds(settings)}


def names_in(section: Section) -> list[str]:
    """Names of all settings and choices of a tree."""
    return [name for name, _ in _collected(section)]


def _collected(section: Section) -> Iterator[tuple[str, tuple[Any, Needs | None]]]:
    """(name, (value, what it needs)) of every setting and choice."""
    own = settings_of(type(section))
    for field in fields(section):  # type: ignore[arg-type]
        value = getattr(section, field.name)
        if isinstance(value, Section):
            if value.name:
                yield field.name, (value.name, None)
            yield from _collected(value)
        elif field.name in own:
            yield field.name, (value, own[field.name].needs)


def made(kind: type[Made], settings: Mapping[str, Any], kinds: Kinds) -> Made:
    """The section of this kind under flat ``settings``, defaults for those that are not there.

    Raises ConfigError, which names each setting at fault; what acts nowhere in it is not looked at.
    """
    values: dict[str, Any] = {}
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name in kinds:
            inner = kinds[field.name](settings)
            given = {**settings, "name": settings[field.name]} if field.name in settings else settings
            values[field.name] = None if inner is None else made(inner, given, kinds)
        elif field.name in settings and (field.name in settings_of(kind) or field.name == "name"):
            values[field.name] = settings[field.name]
    try:
        found = TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        raise ConfigError(explain(error)) from error
    found.check()
    return found


def explain(error: ValidationError, name: str = "") -> str:
    """A validation error, of the setting ``name`` if of one, as lines of ``--flag: what was expected (got …)``."""
    lines = []
    for item in error.errors():
        if item["type"] == "value_error":
            lines.append(item["msg"].removeprefix("Value error, "))
        else:
            flag = "--" + (name or str(item["loc"][0])).replace("_", "-")
            lines.append(f"{flag}: {item['msg'][0].lower()}{item['msg'][1:]} (got {item['input']!r})")
    return "\n".join(lines)


def as_flag(name: str, value: Any) -> list[str]:
    """A setting as it is typed: --name, --no-name, or --name and its values."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}", *map(str, value if isinstance(value, (list, tuple)) else [value])]


def differences(mine: Mapping[str, Any], theirs: Mapping[str, Any], but: Container[str]) -> list[str]:
    """Flat settings that differ, as ``--flag mine != theirs``, those named in ``but`` left out."""
    found = []
    for name in dict.fromkeys([*mine, *theirs]):
        if name not in but and mine.get(name) != theirs.get(name):
            here, there = (as_flag(name, both[name]) if name in both else [] for both in (mine, theirs))
            found.append(" ".join([*(here or ["(not set)"]), "!=", *(there[1:] or there or ["(not set)"])]))
    return found
