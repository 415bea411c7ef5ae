"""The orders of the second system that the sample API plays, `shop`: placed every three hours, and changed for days.

Every value follows from the seed and the order's number, so an order is the same whenever it is asked for.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from stack.sample_api.data import fraction, pick

FIRST_MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
APART = timedelta(hours=3)
LONGEST = timedelta(days=12)
"""From an order's first state to its last."""
STEPS = (("paid", timedelta(days=1)), ("shipped", timedelta(days=4)), ("delivered", timedelta(days=7)))
"""Every state after `placed`, and how long it takes at the most to get there."""


@dataclass(frozen=True)
class Orders:
    """All orders as they are at a moment."""

    moment: datetime
    seed: int = 1

    @property
    def count(self) -> int:
        """How many have been placed. The newest number counts once its own moment in its three hours has come."""
        begun = max(0, -((FIRST_MOMENT - self.moment) // APART))
        return begun if begun and states(self.seed, begun)[0][1] <= self.moment else max(0, begun - 1)

    def order(self, number: int) -> dict[str, Any]:
        """One order, in the state that it has at the moment."""
        reached = [(state, at) for state, at in states(self.seed, number) if at <= self.moment]
        lines = order_lines(self.seed, number)
        return {
            "order_id": order_id(number),
            "customer": {"number": 1 + int(208 * fraction(self.seed, "order", number, "customer"))},
            "status": reached[-1][0],
            "currency": "EUR",
            "total": round(sum(line["quantity"] * line["unit_price"] for line in lines), 2),
            "placed_at": written(reached[0][1]),
            "updated_at": written(reached[-1][1]),
        }

    def changed(self, since: datetime, before: datetime) -> list[dict[str, Any]]:
        """Every order that was last changed in the span, the longest ago first."""
        since = max(since, FIRST_MOMENT)
        first = max(1, (since - LONGEST - FIRST_MOMENT) // APART)
        found = [self.order(number) for number in range(first, self.count + 1)]
        wanted = [order for order in found if written(since) <= order["updated_at"] < written(before)]
        return sorted(wanted, key=lambda order: (order["updated_at"], order["order_id"]))

    def lines(self) -> list[dict[str, Any]]:
        """The lines of all orders."""
        return [line for number in range(1, self.count + 1) for line in order_lines(self.seed, number)]


@cache
def states(seed: int, number: int) -> list[tuple[str, datetime]]:
    """All that happens to an order, and when. One in ten is cancelled in place of being shipped."""
    at = FIRST_MOMENT + APART * (number - 1 + 0.99 * fraction(seed, "order", number, "placed"))
    found = [("placed", at)]
    cancelled = fraction(seed, "order", number, "cancelled") < 0.1
    for state, longest in STEPS:
        at += longest * fraction(seed, "order", number, state)
        found.append(("cancelled" if cancelled and state == "shipped" else state, at))
        if found[-1][0] == "cancelled":
            break
    return found


@cache
def order_lines(seed: int, number: int) -> list[dict[str, Any]]:
    """What was ordered; it never changes."""
    return [
        {
            "order_id": order_id(number),
            "line": line,
            "sku": f"{pick(('GAR', 'KIT', 'OFF', 'OUT', 'STU', 'WOR'), seed, number, line)}-{seed}-{number % 194:07d}",
            "quantity": 1 + int(4 * fraction(seed, number, line, "quantity")),
            "unit_price": round(1 + 99 * fraction(seed, number, line, "price"), 2),
        }
        for line in range(1, 2 + number % 4)
    ]


def order_id(number: int) -> str:
    """What an order is called."""
    return f"SO-{number:06d}"


def written(moment: datetime) -> str:
    """A moment as the API writes it."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
