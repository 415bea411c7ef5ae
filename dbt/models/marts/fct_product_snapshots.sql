{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ delete_removed_batches(ref('base_dummyjson__products_batches')) }}",
    post_hook="{{ store_batches(ref('base_dummyjson__products_batches')) }}",
) }}

with

new as (

    {{ new_batches(ref('base_dummyjson__products_batches')) }}

)

select
    product_id,
    category,
    price,
    discount_percentage,
    rating,
    stock,
    availability_status,
    _batch_id,
    _extracted_at
from {{ ref('stg_dummyjson__products') }}
where _batch_id in (select _batch_id from new)
