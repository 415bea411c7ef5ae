"""The hand-off from extract to dbt, measured: ours, stock Prefect, Airflow and Dagster, interleaved in one run."""
