"""`baton source try`: one page of a source, and what a reading would make of it. Lands nothing."""

import logging
from dataclasses import dataclass

from flows.sources.reader.cursors import CursorValue
from flows.sources.reader.files import Source
from flows.sources.reader.keys import seen_keys
from flows.sources.reader.reading import greatest_cursor, raw_pages, readers, replaced_rows
from flows.sources.reader.rest_api import RawPage, describe
from flows.sources.reader.secrets import Secrets
from flows.sources.reader.windows import plan_window

SHOWN_BYTES = 500


@dataclass(frozen=True)
class Look:
    """The first page of a source."""

    source: Source
    page: RawPage
    keys: list[object]
    cursor: CursorValue | None
    secrets: Secrets

    @property
    def records(self) -> list[bytes]:
        """As they would land."""
        return [bytes(record) for record in self.page.split.records]


def look_at(source: Source, secrets: Secrets | None = None, page_size: int | None = None) -> Look:
    """Reads the first page, as a first reading would; ApiError and InvalidInputError as there."""
    secrets = secrets or Secrets()
    window = plan_window(source.table)
    page = next(raw_pages(source, window, page_size, secrets, logging.getLogger(__name__)))
    read_keys, read_cursors = readers(source.table)
    with seen_keys() as seen:
        replaced_rows(source.table, page, read_keys, seen, 0)
    keys = read_keys.read(page.split.array) if read_keys else []
    return Look(source, page, keys, greatest_cursor(page, read_cursors, None), secrets)


def show(look: Look) -> str:
    """What a person wants to know before the first extract."""
    table, page = look.source.table, look.page
    rows = [("source", f"{look.source.name}, declared in {look.source.file}"), ("request", page.where)]
    rows.append(("records", f"{len(page.split.records)} on this page"))
    rows.append(("key", _key(look)))
    rows.append(("total", _total(page.total)))
    rows.append(("next", describe(page.next, 2, look.secrets) if page.next else _no_next(look)))
    if table.incremental:
        rows.append(("cursor", f"{table.incremental.cursor_path}, here up to {look.cursor}"))
    if page.split.records:
        first = look.secrets.redact(look.records[0][:SHOWN_BYTES].decode("utf-8", "replace"))
        rows.append(("record", first + ("…" if len(look.records[0]) > SHOWN_BYTES else "")))
    return "\n".join(f"{name:<9}{text}" for name, text in rows)


def _key(look: Look) -> str:
    if not look.source.table.primary_key:
        return "none declared, so a record that comes twice is not noticed"
    values = ", ".join(map(str, look.keys[:3])) + (", …" if len(look.keys) > 3 else "")
    return f"{', '.join(look.source.table.primary_key)}: {values or 'no record, so none'}"


def _total(total: int | None) -> str:
    return "none, so only the paginator says that nothing is missing" if total is None else f"{total:,}"


def _no_next(look: Look) -> str:
    return "none: this is the last page" if look.source.system else "whatever the generator yields next"
