"""Finds the batches that no build can take, and puts them into quarantine."""

from collections.abc import Iterable

from flows.errors import BuildError, DataError
from flows.landing.batch import Batch, Manifest
from flows.processing.dbt_runs import run_dbt
from flows.processing.pending import Pending
from flows.processing.record import build_and_record, build_arguments
from flows.processing.result import ProcessingResult, TransformRun, failed
from flows.settings import Settings
from flows.warehouse import ledger
from flows.warehouse.connection import connect


def isolate(pending: Pending, settings: Settings, run: TransformRun) -> ProcessingResult:
    """Builds with none of the batches and then with each of them alone; whose build fails goes into quarantine.

    If the build without any of them fails, the fault is the project's or the machine's, and no batch is blamed. Ends
    with a build without the quarantined batches, so that no model stays as a failed build left it.
    """
    sources = {batch.source for batch in pending.manifests}
    without_batches = build_arguments(sources, everything=pending.sources is None)
    result = ProcessingResult()
    try:
        hold_back(pending.manifests, sources, settings)
        run_dbt(without_batches, settings, run)
        tried, reasons = try_one_by_one(pending, settings, run)
        result += tried
        hold_back([], sources, settings)
        if reasons:
            result += quarantine(reasons, settings, run)
            result += ProcessingResult(nodes=tuple(run_dbt(without_batches, settings, run)))
    except BuildError as error:
        return result + failed(sources, error, dict.fromkeys(pending.failures, 0))
    finally:
        hold_back([], sources, settings)
    return result


def try_one_by_one(
    pending: Pending, settings: Settings, run: TransformRun
) -> tuple[ProcessingResult, dict[Batch, str]]:
    """What could be built, each batch by itself, and why the others could not.

    A second round tries again what failed in the first, because a batch may need what another one brought. Raises
    BuildError for a failure that no batch is to blame for; what was built before is in the ledger.
    """
    suspects, reasons, result = dict(pending.manifests), dict[Batch, str](), ProcessingResult()
    sources = {batch.source for batch in suspects}
    for batch, manifest in [*suspects.items(), *suspects.items()]:
        if batch not in suspects:
            continue
        hold_back(suspects.keys() - {batch}, sources, settings)
        arguments = build_arguments([batch.source], everything=False)
        try:
            result += build_and_record(arguments, {batch: manifest}, pending.project, settings, run)
        except DataError as error:
            refuse_unread(batch, manifest, error, settings)
            reasons[batch] = str(error)
        else:
            del suspects[batch]
    return result, {batch: reasons[batch] for batch in suspects}


def refuse_unread(batch: Batch, manifest: Manifest, error: DataError, settings: Settings) -> None:
    """BuildError if the batch's file is as its manifest says, and dbt merely did not read all of it."""
    with connect(settings) as connection:
        loaded = ledger.base_rows(connection, [batch])[batch.key]
    if loaded != manifest.rows and batch.count_records(manifest) == manifest.rows:
        raise BuildError(
            f"{batch.folder}: holds {manifest.rows} records as its manifest says, but dbt loaded {loaded}. "
            f"The batch is good and stays pending; look at BATON_LANDING_ROOT and at the base model. {error}"
        ) from error


def quarantine(reasons: dict[Batch, str], settings: Settings, run: TransformRun) -> ProcessingResult:
    """Into quarantine with these, so that they stop no other batch."""
    if reasons:
        with connect(settings) as connection:
            ledger.quarantine(connection, {batch.key: reason for batch, reason in reasons.items()}, run.id)
    return ProcessingResult(quarantined=reasons)


def hold_back(batches: Iterable[Batch], sources: Iterable[str], settings: Settings) -> None:
    """Keeps exactly these batches of the sources out of the next build; with none, undoes what a killed run left."""
    with connect(settings) as connection:
        ledger.hold_back(connection, [batch.key for batch in batches], sources)
