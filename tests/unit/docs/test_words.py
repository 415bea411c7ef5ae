"""The pages speak plain English: short sentences, and the field's words."""

import re
from pathlib import Path

import pytest

from flows.settings import PROJECT
from tests.support.pages import pages, sentences, without_code, words

LONGEST = 25
COUNTED = [
    PROJECT / "README.md",
    PROJECT / "CONTRIBUTING.md",
    PROJECT / "SECURITY.md",
    *(PROJECT / folder / "README.md" for folder in ("benchmarks", "dbt", "stack/engine", "tests/chaos")),
    *sorted((PROJECT / "docs").glob("*.md")),
]
STOPPED_READERS = (
    # What strangers stumbled over, with what the field says.
    (r"turns?", "source lock"),
    (r"alone", "only, by itself"),
    (r"LeftToAnother", "SourcesLocked"),
    (r"un?told", "announced, informed"),
    (r"set aside|sets aside", "quarantined"),
    (r"reaps?|reaped", "crash zombies"),
    (r"heard of|stops? beating|beats", "sent no event, lost its heartbeat"),
    (r"sole writer", "exclusive writer"),
    (r"mends?|mended|mending", "fix"),
    (r"wrong", "an error"),
    (r"well", "healthy, correct"),
    (r"whole", "complete"),
    (r"stands?", "is, remains"),
    (r"for ever|forever", "until a person ends it"),
    (r"nobody is touched", "nothing changes"),
)
READ = [page for page in pages() if page.name != "CHANGELOG.md"]
"""The changelog says what things were called."""


@pytest.mark.parametrize("page", COUNTED, ids=lambda page: str(page.relative_to(PROJECT)))
def test_no_sentence_is_longer_than_25_words(page: Path) -> None:
    found = sentences(page.read_text())
    assert found
    long = [(len(words(sentence)), sentence) for sentence in found if len(words(sentence)) > LONGEST]
    assert long == []


@pytest.mark.parametrize("page", READ, ids=lambda page: str(page.relative_to(PROJECT)))
def test_no_page_has_a_word_that_stopped_readers(page: Path) -> None:
    assert stumbling_blocks(without_code(page.read_text())) == []


def stumbling_blocks(text: str) -> list[str]:
    """Each word that stopped readers, where it is, and what to say."""
    return [
        f"line {number}: {found[0]!r}, better: {better}"
        for number, line in enumerate(text.splitlines(), 1)
        for word, better in STOPPED_READERS
        for found in re.finditer(rf"\b(?:{word})\b", line, re.IGNORECASE)
    ]


def test_the_counting_finds_a_long_sentence_in_a_list_and_a_word_in_a_table() -> None:
    long = " ".join(["word"] * 26)
    text = f"# Title\n\n- {long}. Short one.\n\n| a | told |\n\n```text\n{long} {long}\n```\n"
    assert [len(words(sentence)) for sentence in sentences(text)] == [1, 26, 2]
    assert stumbling_blocks("| a | the whole |")[0].startswith("line 1: 'whole'")
    assert stumbling_blocks(without_code("`wrong` [b](c/alone.md)")) == []
