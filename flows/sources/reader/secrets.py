"""Secrets by name, and texts without them."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit, urlunsplit

from flows.errors import InvalidInputError
from flows.sources.reader.declaration import Secret

QUERY = re.compile(r"\?[^\s'\")>]+")
LOGIN = re.compile(r"//[^/@\s]+@")
SHORTEST = 4
"""A shorter value is not looked for in texts: it would be found in every other word."""


def no_blocks(name: str) -> str:
    """Where no Prefect is: InvalidInputError."""
    raise InvalidInputError(f"the Prefect Secret block {name} can only be read in a flow; use an environment variable")


@dataclass
class Secrets:
    """Looks secrets up, and remembers them to keep them out of every message."""

    read_block: Callable[[str], str] = no_blocks
    """Gives the value of a Prefect Secret block."""
    _values: set[str] = field(default_factory=set, repr=False)

    def value(self, of: str | Secret) -> str:
        """The value of a declared secret; of a text, which is none, itself."""
        if isinstance(of, str):
            return of
        if of.env is None:
            return self.keep(self.read_block(str(of.block)))
        if not (found := os.environ.get(of.env)):
            raise InvalidInputError(f"{of}: expected a secret in it, but it is not set, or empty")
        return self.keep(found)

    def named(self, name: str) -> str:
        """The environment variable of that name if there is one, else the Prefect Secret block."""
        return self.keep(os.environ.get(name) or self.read_block(name))

    def keep(self, value: str) -> str:
        """The value itself, which no message will show from now on."""
        self._values |= {value, quote(value, safe=""), json.dumps(value)[1:-1]}
        return value

    def redact(self, text: str) -> str:
        """The text without secrets, without queries and logins of URLs."""
        for value in sorted(self._values, key=len, reverse=True):
            if len(value) >= SHORTEST:
                text = text.replace(value, "***")
        return LOGIN.sub("//***@", QUERY.sub("?***", text))


def bare_url(url: str) -> str:
    """A URL without login and query, for messages."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def same_host(url: str, other: str) -> bool:
    """Whether credentials for one may go to the other: same host and port, or the same host's https for its http."""
    one, two = urlsplit(url), urlsplit(other)
    if (one.scheme, two.scheme) == ("http", "https") and not one.port and not two.port:
        return one.hostname == two.hostname
    return (one.scheme, one.hostname, one.port) == (two.scheme, two.hostname, two.port)
