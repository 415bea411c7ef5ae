-- An error. A version holds in every batch from its first on and before its last, so all versions together hold as many
-- times as there are snapshots; with no overlaps (the other test), that leaves no gap and nothing too much. Products
-- that were missing in some batches are right here, too, which a comparison of neighbouring versions could not tell.
with

timeline as (

    select
        _extracted_at,
        loaded_rows,
        row_number() over (order by _extracted_at) as reading
    from {{ ref('base_dummyjson__products_batches') }}
    qualify row_number() over (partition by _extracted_at order by _batch_id desc) = 1

),

snapshots as (

    select
        coalesce(sum(loaded_rows), 0) as times,
        coalesce(max(reading), 0) + 1 as next_reading
    from timeline

),

versions as (

    select coalesce(sum(coalesce(closed.reading, snapshots.next_reading) - opened.reading), 0) as times
    from {{ ref('dim_products_history') }} as history
    cross join snapshots
    left join timeline as opened
        on history.valid_from = opened._extracted_at
    left join timeline as closed
        on history.valid_to = closed._extracted_at

)

select
    versions.times,
    snapshots.times as expected_times
from versions
cross join snapshots
where versions.times <> snapshots.times
