"""The status in short, as Markdown: every problem, and the sources that fit on a page, the latest first."""

from flows.status.model import Problem, SourceStatus, Status
from flows.status.words import as_seconds, as_span, as_time

MOST_SOURCES = 30
MOST_PROBLEMS = 20


def in_markdown(status: Status) -> str:
    """The text of the artifact."""
    problems = status.problems
    shown = sorted(status.sources, key=lateness, reverse=True)[:MOST_SOURCES]
    lines = [
        f"**{status.summary}**",
        "",
        *map(problem_line, problems[:MOST_PROBLEMS]),
        *([f"- and {len(problems) - MOST_PROBLEMS} more"] if len(problems) > MOST_PROBLEMS else []),
        "",
        "| source | last batch | due after | rows | change | total p50 | pending | quarantine |",
        "|---|---|---|---|---|---|---|---|",
        *map(source_row, shown),
    ]
    if len(status.sources) > MOST_SOURCES:
        lines += ["", f"{len(status.sources) - MOST_SOURCES} more sources are further from being late."]
    return "\n".join([*lines, "", "`baton status` shows more, `baton status --html FILE` draws it."])


def lateness(source: SourceStatus) -> float:
    """The age of the last batch as a part of what is due; 0 where nothing is due."""
    return source.age / source.due if source.age and source.due else 0.0


def problem_line(problem: Problem) -> str:
    """One item of the list."""
    since = f", since {as_time(problem.since)}" if problem.since else ""
    return f"- **{problem.subject}**: {cell(problem.what)}{since}. {problem.next_step}"


def source_row(source: SourceStatus) -> str:
    """One row of the table."""
    change = "" if source.row_change is None else f"{source.row_change:+,}" if source.row_change else "0"
    cells = (
        f"`{source.source}`",
        f"{as_span(source.age)} ago" if source.age else "none yet",
        as_span(source.due) if source.due else "",
        f"{source.rows:,}" if source.rows is not None else "",
        change,
        as_seconds(source.total.p50) if source.total else "",
        str(source.pending),
        str(source.quarantined.number if source.quarantined else 0),
    )
    return f"| {' | '.join(cells)} |"


def cell(text: str) -> str:
    """Text of somebody else, which must not end a line or be markup."""
    return text.replace("\n", " ").replace("<", "&lt;")
