"""What a source declares: the keys of `flows/sources/<system>.yaml`, with dlt's names where dlt has one.

Strict: an unknown key, a missing one and a value of another kind are errors. `files` names their place.
"""

from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from flows.sources.reader.cursors import CursorValue, check_cursor, check_lag

AMOUNT = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]
TableName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Path = Annotated[str, Field(pattern=r"^[^.\s][^\s]*$")]
"""Names joined by dots, `data.items`."""


class Strict(BaseModel):
    """A mapping whose keys are all known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, given: Any) -> Any:
        """Pydantic's own message does not say which keys there are."""
        if isinstance(given, dict):
            for key in given:
                if key not in cls.model_fields:
                    known = ", ".join(cls.model_fields)
                    raise PydanticCustomError(
                        "unknown_key", "expected one of {known}, got {key}", {"known": known, "key": str(key)}
                    )
        return given


class Secret(Strict):
    """Where a secret is: the name of an environment variable, or of a Prefect Secret block. Never the secret itself."""

    env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    block: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")] | None = None

    @model_validator(mode="before")
    @classmethod
    def _named_not_written(cls, given: Any) -> Any:
        if not (isinstance(given, dict) and len(given) == 1 and given.keys() <= {"env", "block"}):
            raise PydanticCustomError(
                "secret",
                "expected the name of an environment variable, {{env: SHOP_TOKEN}}, or of a Prefect Secret block, "
                "{{block: shop-token}}; never the secret itself",
            )
        return given

    def __str__(self) -> str:
        return f"the environment variable {self.env}" if self.env else f"the Prefect Secret block {self.block}"


class BearerAuth(Strict):
    """`Authorization: Bearer <token>`."""

    type: Literal["bearer"]
    token: Secret


class HttpBasicAuth(Strict):
    """`Authorization: Basic <username:password>`."""

    type: Literal["http_basic"]
    username: str | Secret
    password: Secret


class ApiKeyAuth(Strict):
    """A key in a header, or in the query, of each request."""

    type: Literal["api_key"]
    name: Text
    api_key: Secret
    location: Literal["header", "query"] = "header"


class OAuth2ClientCredentials(Strict):
    """A token that is fetched with the client's id and secret, and fetched again before it expires."""

    type: Literal["oauth2_client_credentials"]
    access_token_url: Text
    client_id: str | Secret
    client_secret: Secret
    access_token_request_data: dict[str, str] = {}


class PythonAuth(Strict):
    """`python: module:function`; the function is called with `secret(name)` and returns a `requests` auth."""

    type: Literal["python"]
    python: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]


Auth = Annotated[
    BearerAuth | HttpBasicAuth | ApiKeyAuth | OAuth2ClientCredentials | PythonAuth, Field(discriminator="type")
]


class Paging(Strict):
    """What all paginators share: how many records a page, and the parameter that asks for them."""

    limit: AMOUNT = 100
    limit_param: Text | None = None
    maximum_limit: AMOUNT | None = None

    def page_size(self, wanted: int | None) -> int:
        """Records a page; ValueError where so many cannot be asked for."""
        if wanted is None:
            return self.limit
        if wanted < 1:
            raise ValueError(f"page_size: expected 1 or more records a page, got {wanted}")
        if self.limit_param is None:
            raise ValueError(f"page_size: got {wanted}, but the declaration has no paginator.limit_param to ask for it")
        if self.maximum_limit is not None and wanted > self.maximum_limit:
            raise ValueError(f"page_size: expected at most {self.maximum_limit}, the maximum_limit, got {wanted}")
        return wanted

    @model_validator(mode="after")
    def _limit_is_allowed(self) -> Self:
        if self.maximum_limit is not None and self.limit > self.maximum_limit:
            raise ValueError(f"limit: expected at most maximum_limit, {self.maximum_limit}, got {self.limit}")
        return self


class OffsetPaginator(Paging):
    """`?offset=200&limit=100`. Ends at the total, where `has_more_path` says so, or with an empty page."""

    type: Literal["offset"]
    offset_param: Text = "offset"
    limit_param: Text | None = "limit"
    has_more_path: Path | None = None


class PageNumberPaginator(Paging):
    """`?page=3`. Ends as `offset` does. `base_page`, 0 or 1, is to be said: a wrong guess would skip a page."""

    type: Literal["page_number"]
    base_page: Annotated[int, Field(ge=0)]
    page_param: Text = "page"
    has_more_path: Path | None = None


class HeaderLinkPaginator(Paging):
    """`Link: <https://...>; rel="next"`. Ends with the page that names no next one."""

    type: Literal["header_link"]
    links_next_key: Text = "next"


class JsonLinkPaginator(Paging):
    """The URL of the next page, in the answer. Ends where it is null, empty or missing."""

    type: Literal["json_link"]
    next_url_path: Path = "next"


class CursorPaginator(Paging):
    """`?cursor=abc`: a token from the answer, or a field of the page's last record.

    Ends where `has_more_path` says so, or with no token; by last record without `has_more_path` with an empty page.
    """

    type: Literal["cursor"]
    cursor_param: Text = "cursor"
    cursor_path: Path | None = None
    last_record: Path | None = None
    has_more_path: Path | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.cursor_path is None) == (self.last_record is None):
            raise ValueError("expected cursor_path (a token in the answer) or last_record (a field of it), one of them")
        return self


class SinglePagePaginator(Paging):
    """One request gives everything."""

    type: Literal["single_page"]


Paginator = Annotated[
    OffsetPaginator
    | PageNumberPaginator
    | HeaderLinkPaginator
    | JsonLinkPaginator
    | CursorPaginator
    | SinglePagePaginator,
    Field(discriminator="type"),
]


class Total(Strict):
    """Where the source says how many records there are: a path in the answer, or a header."""

    path: Path | None = None
    header: Text | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.header is None):
            raise ValueError("expected path (in the answer) or header, one of them")
        return self


class Incremental(Strict):
    """How changes are asked for: `start_param` with the greatest value seen of `cursor_path`, less `lag`.

    `initial_value` also says what the values are: a number, or a date or time in ISO 8601. `lag` is then a number, or
    a time such as `30m`, `2h`, `1d`.
    """

    cursor_path: Path
    start_param: Text
    initial_value: CursorValue
    end_param: Text | None = None
    lag: int | str = 0

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        check_cursor(self.initial_value)
        check_lag(self.initial_value, self.lag)
        return self


def as_names(given: Any) -> Any:
    """One name as a list of one."""
    return [given] if isinstance(given, str) else given


class Contract(Strict):
    """What a table promises, whatever it is read from. `primary_key: []` says that its records have no key."""

    primary_key: Annotated[tuple[Text, ...], BeforeValidator(as_names)]
    on_change: Literal["fail", "keep_last"] = "fail"
    reading: Literal["full", "changes"] = "full"
    incremental: Incremental | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.on_change == "keep_last" and not self.primary_key:
            raise ValueError("on_change: keep_last needs a primary_key to know a record by")
        if (self.reading == "changes") != (self.incremental is not None):
            raise ValueError("reading: changes and incremental belong together: expected both or none")
        return self


class Table(Contract):
    """One table of an HTTP API."""

    path: Annotated[str, Field(pattern=r"^[^?#\s]*$")] | None = None
    params: dict[str, str | int | float | bool] = {}
    data_selector: Path = "$"
    paginator: Paginator
    total: Total | None = None


class System(Strict):
    """One HTTP API. `defaults` are keys that each table has unless it says otherwise."""

    base_url: str
    headers: dict[str, str | Secret] = {}
    auth: Auth | None = None
    defaults: dict[str, Any] = {}
    tables: Annotated[dict[TableName, Table], Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _defaults_go_into_each_table(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        defaults, tables = given.get("defaults"), given.get("tables")
        if isinstance(defaults, dict) and isinstance(tables, dict):
            given = given | {"tables": {name: defaults | (table or {}) for name, table in tables.items()}}
        if isinstance(auth := given.get("auth"), dict) and "python" in auth:
            given = given | {"auth": {"type": "python"} | auth}
        return given

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        return check_base_url(url)


def check_base_url(url: str) -> str:
    """The URL itself; ValueError for one with a login or a query in it, and for what is none."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected a URL such as https://api.example.com/v1")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("expected a URL without login, query and fragment; see `auth` and `params`")
    return url.rstrip("/")
