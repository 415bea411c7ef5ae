{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_changed_days(ref('base_dummyjson__products_batches')) }}",
    post_hook="{{ store_batches(ref('base_dummyjson__products_batches')) }}",
) }}

with

changed as (

    {{ changed_batches(ref('base_dummyjson__products_batches')) }}

),

{# The last batch of each day that a batch came to or was taken from. #}
closing as (

    select _batch_id
    from {{ ref('base_dummyjson__products_batches') }}
    where {{ utc_day('_extracted_at') }} in (select {{ utc_day('_extracted_at') }} from changed)
    qualify
        row_number() over (
            partition by {{ utc_day('_extracted_at') }}
            order by _extracted_at desc, _batch_id desc
        ) = 1

)

select
    {{ utc_day('_extracted_at') }} as summary_date,
    category,
    count(*) as product_count,
    count(*) filter (stock = 0) as out_of_stock_count,
    {{ exact_average('price') }}::decimal(12, 2) as average_price,
    min(price) as lowest_price,
    max(price) as highest_price,
    {{ sum_or_name('stock', 'bigint', 'dummyjson.products', by='category', id='product_id') }} as stock,
    {{ sum_or_name(
        'stock * price', 'decimal(18,2)', 'dummyjson.products', by='category', id='product_id'
    ) }} as stock_value
from {{ ref('fct_product_snapshots') }}
where _batch_id in (select _batch_id from closing)
group by summary_date, category
