"""Two schedules five minutes apart, simulated: nothing runs, time is a number, and the faults are the same schedule's.

What is assumed: the extract takes one to four minutes, and with a slow API four to twelve. It writes its file as it
reads. dbt appends at minute five what the file holds then. A worker that is killed means that day's dbt does not run, a
server that day's extract.
"""

import random
from collections import Counter

from tests.chaos import points
from tests.chaos.schedule import Landing, rounds

DBT_AT = 5.0
Warehouse = Counter[str]


def simulate(seed: int, kills: int, landings: int, products: int) -> dict[str, int]:
    """A day a landing; the day of a round's last landing is the one on which something is killed."""
    chance = random.Random(seed)
    file: tuple[str, int] | None = None
    published: set[str] = set()
    warehouse: Warehouse = Counter()
    where = points.EXTRACT + points.TRANSFORM[:3] + points.FROM_OUTSIDE
    for round_ in rounds(seed, kills, landings, where):
        for position, landing in enumerate(round_.landings):
            point = round_.point if position == len(round_.landings) - 1 else None
            batch_id = f"{round_.number}-{position}"
            file, finished = a_day(chance, landing, point, batch_id, file, warehouse, products)
            if finished:
                published.add(batch_id)
    rows = {batch_id: warehouse[batch_id] for batch_id in published | warehouse.keys()}
    return {
        "published": len(published),
        "processed": sum(rows[batch_id] > 0 for batch_id in published),
        "lost": sum(rows[batch_id] == 0 for batch_id in published),
        "doubled": sum(count > products for count in rows.values()),
        "torn": sum(0 < count < products or count % products > 0 for count in rows.values()),
        "kills_in_all": kills,
    }


def a_day(
    chance: random.Random,
    landing: Landing,
    point: str | None,
    batch_id: str,
    file: tuple[str, int] | None,
    warehouse: Warehouse,
    products: int,
) -> tuple[tuple[str, int] | None, bool]:
    """The file at the end of the day, and whether the extract completed it; dbt's rows go into the warehouse."""
    minutes = chance.uniform(4, 12) if landing.api == "slow" else chance.uniform(1, 4)
    runs = landing.api != "500" and point != "server"
    share = chance.random() if point in ("extract.writing", "extract.before_publishing") else 1.0
    at_five = file
    if runs:
        at_five = (batch_id, int(products * min(share, DBT_AT / minutes)))
        file = (batch_id, int(products * share))
    if at_five and point not in ("transform.before_build", "transform.during_build", "worker"):
        warehouse[at_five[0]] += at_five[1]
    return file, runs and share == 1.0
