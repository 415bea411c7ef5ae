-- An error: a category would be there twice, or some would be missing. Few rows on both sides, so it is cheap.
with

closing as (

    select
        {{ utc_day('_extracted_at') }} as summary_date,
        loaded_rows
    from {{ ref('base_dummyjson__products_batches') }}
    qualify row_number() over (partition by summary_date order by _extracted_at desc, _batch_id desc) = 1

),

summed as (

    select
        summary_date,
        sum(product_count) as products
    from {{ ref('category_summary') }}
    group by summary_date

)

select
    coalesce(closing.summary_date, summed.summary_date) as summary_date,
    closing.loaded_rows,
    summed.products
from closing
full join summed
    on closing.summary_date = summed.summary_date
where coalesce(closing.loaded_rows, 0) <> coalesce(summed.products, 0)
