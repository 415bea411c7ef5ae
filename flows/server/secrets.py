"""Values of Prefect Secret blocks."""

from typing import Any

from prefect.blocks.system import Secret

from flows.errors import InvalidInputError


def read_secret_block(name: str) -> str:
    """The value of a block; InvalidInputError, which does not show it, if there is none, or no text in it."""
    try:
        block: Any = Secret.load(name)  # No coroutine, because flows and tasks here are not async.
        value = block.get()
    except ValueError as error:
        raise InvalidInputError(f"the Prefect Secret block {name}: expected a block of that name: {error}") from None
    if not isinstance(value, str):
        raise InvalidInputError(f"the Prefect Secret block {name}: expected a text, got {type(value).__name__}")
    return value
