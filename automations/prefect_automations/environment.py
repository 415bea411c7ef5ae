"""`${NAME}` in a file: the environment's value goes to the server, and never to the screen."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

VARIABLE = re.compile(r"(?<!\$)\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
ESCAPED = re.compile(r"\$(\$\{[A-Za-z_][A-Za-z0-9_]*\})")
HIDDEN = "(hidden)"


@dataclass
class Substitution:
    """What was put in place of variables, and which were missing, by line."""

    values: dict[str, str] = field(default_factory=dict)
    missing: list[tuple[int, str]] = field(default_factory=list)


def has_variable(text: str) -> bool:
    """Whether the text has a `${NAME}`."""
    return bool(VARIABLE.search(text))


def substitute(node: yaml.Node | None, environment: Mapping[str, str] | None = None) -> Substitution:
    """Puts values in place of variables, in the nodes of a YAML file.

    A value without quotes is read as YAML, so that `within: ${SECONDS}` is a number. `$${NAME}` stays as `${NAME}`.
    """
    made = Substitution()
    _walk(node, os.environ if environment is None else environment, made, set())
    return made


def _walk(node: yaml.Node | None, environment: Mapping[str, str], made: Substitution, seen: set[int]) -> None:
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for _, value in node.value:
            _walk(value, environment, made, seen)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _walk(value, environment, made, seen)
    elif isinstance(node, yaml.ScalarNode) and "${" in node.value:
        _replace(node, environment, made)


def _replace(node: yaml.ScalarNode, environment: Mapping[str, str], made: Substitution) -> None:
    def value_of(found: re.Match[str]) -> str:
        name = found.group(1)
        if name not in environment:
            made.missing.append((node.start_mark.line + 1, name))
            return found.group()
        made.values[name] = environment[name]
        return environment[name]

    had = has_variable(node.value)
    node.value = ESCAPED.sub(r"\1", VARIABLE.sub(value_of, node.value))
    if had and node.style is None:  # Without quotes: a number may be meant.
        loader: Any = yaml.SafeLoader("")
        node.tag = loader.resolve(yaml.ScalarNode, node.value, (True, False))


def hide(text: str, values: Mapping[str, str]) -> str:
    """The text with `${NAME}` in place of each value, the longest first."""
    for name, value in sorted(values.items(), key=lambda item: -len(item[1])):
        if value:
            text = text.replace(value, f"${{{name}}}")
    return text
