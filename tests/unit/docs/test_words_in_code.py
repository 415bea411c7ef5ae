"""The code speaks as the pages do: no name and no comment has a word that stopped readers."""

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.settings import PROJECT

FOLDERS = ("automations", "stack", "flows", "dbt", "tests", "benchmarks")
NAMES = {
    *("turns", "take", "alone", "mine", "LeftToAnother"),
    *("Outcome", "told", "untold", "hold", "release", "set_aside"),
    *("reap", "Deaf", "heard_of"),
    *("store_of", "opened", "sole_writer"),
    *("Patient", "mend", "wrong", "Described", "carry_out", "listed", "flat"),
}
"""What a function, class, parameter or variable of ours may not be called."""
TEXT = re.compile(
    r"\b(?:mend(?:s|ed|ing)?|told|untold|set(?:s|ting)? aside|reaps?(?!/zombies)|heard of|stops? beating|for ever|"
    r"LeftToAnother|nobody is touched|is it well|sole writer|the turn of|turns? of all)\b",
    re.IGNORECASE,
)
"""What a comment, a docstring or a message may not say."""
OUR_OWN = {Path(__file__), Path(__file__).with_name("test_words.py")}
SOURCES = [
    path
    for folder in FOLDERS
    for ending in ("*.py", "*.sql", "*.yml", "*.yaml")
    for path in sorted((PROJECT / folder).rglob(ending))
    if path not in OUR_OWN and not {"target", "logs", "dbt_packages"} & set(path.parts)
]


def names_given(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of everything that a module names itself; what libraries call things is theirs."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.lineno, node.name
            case ast.arg():
                yield node.lineno, node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, node.id


def text_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of the comments and strings of a Python file; of any other file every line."""
    if path.suffix != ".py":
        yield from enumerate(path.read_text().splitlines(), 1)
        return
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type in (tokenize.COMMENT, tokenize.STRING) or "FSTRING_MIDDLE" in tokenize.tok_name[token.type]:
                yield token.start[0], token.string


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_of_ours_has_a_name_that_stopped_readers(folder: str) -> None:
    found = [
        f"{path.relative_to(PROJECT)}:{line}: {name}"
        for path in SOURCES
        if path.suffix == ".py" and path.is_relative_to(PROJECT / folder)
        for line, name in names_given(ast.parse(path.read_text()))
        if name in NAMES
    ]
    assert found == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_comment_and_no_message_has_a_word_that_stopped_readers(folder: str) -> None:
    found = [
        f"{path.relative_to(PROJECT)}:{line}: {match[0]}"
        for path in SOURCES
        if path.is_relative_to(PROJECT / folder)
        for line, text in text_of(path)
        for match in TEXT.finditer(" ".join(text.split()))
    ]
    assert found == []


def test_the_search_finds_a_name_and_a_word(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text("def reap(mine):  # nobody was told\n    held = mine\n")
    assert [name for _, name in names_given(ast.parse(file.read_text())) if name in NAMES] == ["reap", "mine"]
    assert [text for _, text in text_of(file) if TEXT.search(text)] == ["# nobody was told"]
