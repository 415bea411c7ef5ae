-- An error. DuckDB keeps the one count and the other is small, so this costs nothing; that no id comes twice in a batch
-- is tested there.
select
    (select count(*) from {{ ref('fct_product_snapshots') }}) as snapshots,
    (select coalesce(sum(loaded_rows), 0) from {{ ref('base_dummyjson__products_batches') }}) as loaded
where snapshots <> loaded
