"""The chain in Dagster: an asset that lands a batch, and a sensor on it that starts a job with the marts."""

import dagster as dg

KEY = dg.AssetKey(["dummyjson", "products"])


@dg.asset(key=KEY)
def products() -> None:
    """Land a batch."""
    from benchmarks.handoff import work

    work.land()
    work.stamp("finished")


@dg.asset
def marts() -> None:
    """dbt build, in the run's own process."""
    from benchmarks.handoff import work

    work.stamp("first_line")
    work.build()
    work.stamp("queryable")


# One process a run; the default executor would start another one for the step.
extract = dg.define_asset_job("extract", [products], executor_def=dg.in_process_executor)
transform = dg.define_asset_job("transform", [marts], executor_def=dg.in_process_executor)


@dg.asset_sensor(
    asset_key=KEY, job=transform, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING
)
def transform_when_extract_finishes(context: dg.SensorEvaluationContext, _: dg.EventLogEntry) -> dg.RunRequest:
    """One run a materialisation."""
    return dg.RunRequest(run_key=context.cursor)


definitions = dg.Definitions(
    assets=[products, marts], jobs=[extract, transform], sensors=[transform_when_extract_finishes]
)
