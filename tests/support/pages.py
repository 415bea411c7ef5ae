"""The Markdown pages of the project, taken apart: prose, code, links."""

import re
from pathlib import Path

from flows.settings import PROJECT

FENCE = re.compile(r"^[ >]*```(\w*)\n(.*?)^[ >]*```", re.S | re.M)
SENTENCE_END = re.compile(r"(?<=[.!?])[\"”)*_]*\s+")


def pages() -> list[Path]:
    """Every Markdown page of the project; not those of the packages, data and builds that lie in its folder."""
    found = [path.relative_to(PROJECT) for path in PROJECT.rglob("*.md")]
    elsewhere = {"data", "target", "logs", "dbt_packages", "node_modules"}
    ours = [path for path in found if not any(part in elsewhere or part.startswith(".") for part in path.parts)]
    return sorted(PROJECT / path for path in ours)


def code_blocks(text: str) -> list[tuple[str, str]]:
    """Language and content of every fenced block."""
    return [(match[1], match[2]) for match in FENCE.finditer(text)]


def without_blocks(text: str) -> str:
    """The text without fenced blocks, HTML comments and what a script has drawn; each line stays where it was."""
    for pattern in (re.compile(r"<!-- (\w+) -->.*?<!-- /\1 -->", re.S), re.compile(r"<!--.*?-->", re.S), FENCE):
        text = pattern.sub(lambda match: "\n" * match[0].count("\n"), text)
    return text


def without_code(text: str) -> str:
    """Prose, headings and tables: `code` and the addresses of links are left out."""
    plain = re.sub(r"`[^`]*`", "`", without_blocks(text))
    return re.sub(r"\]\([^)]*\)", "]", re.sub(r"https?://\S+", "", plain))


def sentences(text: str) -> list[str]:
    """The sentences of the prose; neither code blocks nor tables. An item of a list begins a sentence."""
    lines = [line for line in without_blocks(text).splitlines() if not line.lstrip().startswith("|")]
    marked = re.sub(r"^\s*(?:[-*>]|\d+\.|#+)\s+", "\n\n", "\n".join(lines), flags=re.M)
    prose = re.sub(r"\]\([^)]*\)", "]", re.sub(r"`[^`]*`", "`code`", marked))
    paragraphs = [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", prose)]
    return [sentence for paragraph in paragraphs for sentence in SENTENCE_END.split(paragraph) if sentence]


def words(sentence: str) -> list[str]:
    """The words of a sentence; `code` is one."""
    return [word for word in sentence.split() if re.search(r"\w", word)]


def links(text: str) -> list[str]:
    """The targets inside the project, without their anchors; pictures too."""
    found = re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text))
    return [link for link in found if "://" not in link and not link.startswith("mailto:")]


def headings(text: str) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in found}
