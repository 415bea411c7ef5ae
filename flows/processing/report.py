"""What a transform says of its result: artifacts, its name, and its final state."""

from collections.abc import Sequence
from datetime import UTC, datetime

from prefect import State
from prefect.states import Completed

from flows.errors import BatchError, BatonError, BuildError, ServerError, counted, some, some_lines
from flows.processing.batches import list_quarantined
from flows.processing.pending import FAILURES_BEFORE_ISOLATION
from flows.processing.result import Failure, ProcessingResult, TransformRun, some_names
from flows.processing.source_locks import busy
from flows.server.artifacts import show_batches, show_nodes
from flows.server.flow_runs import describe_this_run
from flows.server.queue import complete_waiting_transforms, next_transform
from flows.settings import Settings


def report(result: ProcessingResult, run: TransformRun, cause: str | None) -> None:
    """Artifacts of what was done, also of a run that then fails; ends the transforms that wait for what was done."""
    show_nodes(result.nodes_to_show)
    try:
        if result.entries:
            show_batches(result.entries, result.arrivals, cause)
            if number := complete_waiting_transforms(result.processed, run.id):
                run.logger.info("completed %s that waited for what is processed now", counted(number, "run", "runs"))
        describe_this_run(run_name(result), sources_of(result))
    except ServerError as error:
        run.logger.warning("what was done is not in this run's name, or in the transforms that wait for it: %s", error)


def run_name(result: ProcessingResult) -> str:
    """`transform dummyjson.products, dummyjson.users: 3 batches`, as short as a list of runs needs it."""
    did = [
        *([counted(len(result.entries), "batch", "batches")] if result.entries else []),
        *([f"{len(result.quarantined):,} in quarantine"] if result.quarantined else []),
        *(["failed"] if result.failures else []),
        *(["locked"] if result.locked else []),
    ]
    nothing = "built again" if result.nodes else "nothing to do"
    names = some(sources_of(result))
    return f"{f'transform {names}'.strip()}: {', '.join(did) or nothing}"


def sources_of(result: ProcessingResult) -> list[str]:
    """The sources whose batches were processed, quarantined or left pending."""
    seen = {entry.source for entry in result.entries} | {batch.source for batch in result.quarantined}
    return sorted(seen | result.failed_sources | result.locked)


def outcome(result: ProcessingResult, settings: Settings, wait: bool) -> State[None]:
    """The run's final state; raises what kept batches pending or went into quarantine."""
    if result.failures:
        raise failure_of(result.failures)
    if result.quarantined:
        reasons = some_lines(list(result.quarantined.values()))
        raise BatchError(f"in quarantine, everything else was processed:\n{reasons}")
    if result.locked and wait:
        raise busy(result.locked, settings)
    if not result.nodes:
        return nothing_done(result, settings)
    rows = sum(entry.rows for entry in result.entries)
    batches = counted(len(result.entries), "batch", "batches")
    return Completed(message=f"{batches} with {counted(rows, 'row', 'rows')} processed")


def failure_of(failures: Sequence[Failure]) -> Exception:
    """The error, or one for several, with what becomes of the batches and when the next try comes."""
    message = "\n".join([*map(failure_text, failures), next_try()])
    if len(failures) > 1:
        return BuildError(message)
    error = failures[0].error
    if isinstance(error, BatonError):  # Another one says no more than itself, and may take no text.
        error.args = (message,)
    return error


def failure_text(failure: Failure) -> str:
    """What failed, that its batches stay pending, and which of the failures before isolation this is."""
    if not failure.batches:
        return str(failure.error)
    worst_first = sorted(failure.batches, key=lambda key: -failure.batches[key])
    worst = failure.batches[worst_first[0]]
    stay = f"{counted(len(worst_first), 'batch stays', 'batches stay')} pending: {some_names(worst_first)}"
    if not worst:
        return f"{failure.error}\n{stay}. This failure counts against no batch"
    whose = "" if len(worst_first) == 1 else " of the first"
    return (
        f"{failure.error}\n{stay}. This is failed build {worst} of {FAILURES_BEFORE_ISOLATION}{whose}; after "
        f"{FAILURES_BEFORE_ISOLATION} the batches are tried one by one, and what cannot be built goes into quarantine"
    )


def next_try() -> str:
    """When what is pending is tried again, as far as the server says it."""
    try:
        due = next_transform()
    except ServerError as error:
        return f"The next transform tries again; the server did not say when it is due: {error}"
    if due is None:
        return "No transform is scheduled; `prefect deployment run transform/warehouse` tries again"
    if due <= datetime.now(UTC):
        return "The next transform waits already and tries again"
    return f"The next transform tries again; it is due at {due:%Y-%m-%d %H:%M} UTC"


def nothing_done(result: ProcessingResult, settings: Settings) -> State[None]:
    """Completed, and why there was nothing to do."""
    if result.locked:
        names = ", ".join(sorted(result.locked))
        return Completed(name="SourcesLocked", message=f"another transform holds the locks of {names} and takes them")
    landed = f"batch under {settings.landing_root} is in the ledger"
    waiting = list_quarantined(settings)
    if not waiting:
        return Completed(name="NothingToDo", message=f"every {landed}")
    names = some_names([(batch.source, batch.batch_id) for batch in waiting])
    return Completed(
        name="NothingToDo",
        message=f"every other {landed}. In quarantine: {names}; `baton quarantine` says why, and `baton replay` makes "
        "one pending again",
    )
