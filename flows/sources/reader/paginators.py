"""From one answer to the next request, for every kind of paginator: pure functions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urljoin

from flows.sources.reader import declaration
from flows.sources.reader.declaration import Paginator
from flows.sources.reader.records import Body, Split

Params = Mapping[str, str | int | float]


@dataclass(frozen=True)
class Request:
    """One page, as it is asked for. `base` are the parameters that every page has."""

    url: str
    params: Params = field(default_factory=dict)

    def with_params(self, params: Params) -> "Request":
        """The same with these parameters, too, or instead."""
        return Request(self.url, {**self.params, **params})


@dataclass(frozen=True)
class Answer:
    """What a paginator may look at."""

    url: str
    """That answered; links are relative to it."""
    links: Mapping[str, Mapping[str, str]]
    """Of the Link header, by `rel`."""
    split: Split
    rows: int
    """Records up to here, these included."""
    total: int | None


def first_request(paginator: Paginator, url: str, params: Params, page_size: int | None) -> Request:
    """The request for the first page; ValueError for a page size that cannot be asked for."""
    wanted = dict(params)
    size = paginator.page_size(page_size)
    if paginator.limit_param is not None:
        wanted[paginator.limit_param] = size
    match paginator:
        case declaration.OffsetPaginator():
            wanted[paginator.offset_param] = 0
        case declaration.PageNumberPaginator():
            wanted[paginator.page_param] = paginator.base_page
    return Request(url, wanted)


def next_request(paginator: Paginator, request: Request, answer: Answer) -> Request | None:
    """The request for the next page, None after the last one; ValueError for an answer that contradicts itself."""
    match paginator:
        case declaration.OffsetPaginator():
            return request.with_params({paginator.offset_param: answer.rows}) if _goes_on(paginator, answer) else None
        case declaration.PageNumberPaginator():
            number = int(request.params[paginator.page_param]) + 1
            return request.with_params({paginator.page_param: number}) if _goes_on(paginator, answer) else None
        case declaration.HeaderLinkPaginator():
            return _linked(answer, answer.links.get(paginator.links_next_key, {}).get("url"))
        case declaration.JsonLinkPaginator():
            return _linked(answer, answer.split.body.value(paginator.next_url_path))
        case declaration.CursorPaginator():
            token = _token(paginator, answer)
            return None if token is None else request.with_params({paginator.cursor_param: token})
        case declaration.SinglePagePaginator():
            return None


def _goes_on(paginator: declaration.OffsetPaginator | declaration.PageNumberPaginator, answer: Answer) -> bool:
    """Whether there is a next page. A short page proves nothing: many servers give fewer than they are asked for."""
    if (more := _has_more(paginator.has_more_path, answer)) is not None:
        return more
    return bool(answer.split.records) and (answer.total is None or answer.rows < answer.total)


def _token(paginator: declaration.CursorPaginator, answer: Answer) -> str | int | None:
    more = _has_more(paginator.has_more_path, answer)
    if more is False:
        return None
    if paginator.cursor_path is not None:
        token = answer.split.body.value(paginator.cursor_path)
        place = paginator.cursor_path
    elif answer.split.records:
        token = Body(answer.split.records[-1]).value(str(paginator.last_record))
        place = f"{paginator.last_record} of the last record"
        if token in (None, ""):
            raise ValueError(f"expected a number or a text under {place}, got {token!r}")
    else:
        return None
    if token in (None, "", False):
        if more:
            raise ValueError(
                f"expected a token under {place}, because {paginator.has_more_path} is true, got {token!r}"
            )
        return None
    return token  # type: ignore[no-any-return]


def _has_more(path: str | None, answer: Answer) -> bool | None:
    """What the source says; None where it is not asked."""
    if path is None:
        return None
    more = answer.split.body.value(path)
    if not isinstance(more, bool):
        raise ValueError(f"expected true or false under {path!r}, got {more!r}")
    if more and not answer.split.records:
        raise ValueError(f"expected records, because {path} is true, got a page without any")
    return more


def _linked(answer: Answer, url: object) -> Request | None:
    if url in (None, "", False):
        return None
    if not isinstance(url, str):
        raise ValueError(f"expected the URL of the next page, got {url!r}")
    return Request(urljoin(answer.url, url))
