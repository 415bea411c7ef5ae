"""The chain in Airflow: a DAG that lands a batch and updates an asset, and one that the asset starts."""

from airflow.sdk import Asset, dag, task

PRODUCTS = Asset("dummyjson.products")


@dag(schedule=None, catchup=False)
def extract() -> None:
    """Land a batch; the asset is updated when the task has succeeded."""

    @task(outlets=[PRODUCTS])
    def land() -> None:
        from benchmarks.handoff import work

        work.land()
        work.stamp("finished")

    land()


@dag(schedule=[PRODUCTS], catchup=False, max_active_runs=1)
def transform() -> None:
    """dbt build, in the task's own process."""

    @task
    def build() -> None:
        from benchmarks.handoff import work

        work.stamp("first_line")
        work.build()
        work.stamp("queryable")

    build()


extract()
transform()
