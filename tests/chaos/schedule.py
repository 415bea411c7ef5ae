"""What is done to the chain, in which order: follows from the seed alone."""

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tests.chaos import points

API_FAULTS = ("none", "429", "500", "cut", "slow")


@dataclass(frozen=True)
class Landing:
    """One extract that is not killed: what becomes of its event, and what its API does meanwhile."""

    event: str
    api: str


@dataclass(frozen=True)
class Round:
    """Some landings and one kill; then everything must come to rest with nothing lost."""

    number: int
    point: str
    times: int
    """The process is killed when it comes to the point for this time; for kills from outside, tenths of a second."""
    landings: tuple[Landing, ...]
    again: bool
    """Whether somebody starts the killed extract again, as the button Retry does."""
    by_hand: bool
    """Whether somebody starts two transforms at once, beside the queue."""

    def __str__(self) -> str:
        return f"round {self.number}: {self.point} #{self.times}, {len(self.landings)} landings"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def rounds(
    seed: int, kills: int, landings: int, where: tuple[str, ...], most: Mapping[str, int] = points.MOST
) -> list[Round]:
    """So many rounds with one kill each; every point comes equally often, in an order that the seed decides."""
    chance = random.Random(seed)
    wanted: list[str] = []
    while len(wanted) < kills:
        wanted += chance.sample(where, len(where))
    made = []
    for number, point in enumerate(wanted[:kills]):
        share = landings // kills + (number < landings % kills)
        made.append(
            Round(
                number,
                point,
                chance.randint(1, most.get(point, 1 if point not in points.FROM_OUTSIDE else 30)),
                tuple(Landing(event_fault(chance), api_fault(chance)) for _ in range(share)),
                again=chance.random() < 0.5,
                by_hand=chance.random() < 0.1,
            )
        )
    return made


def event_fault(chance: random.Random) -> str:
    return chance.choices(points.EVENT_FAULTS, (30, 30, 15, 15, 10))[0]


def api_fault(chance: random.Random) -> str:
    return chance.choices(API_FAULTS, (80, 5, 5, 5, 5))[0]
