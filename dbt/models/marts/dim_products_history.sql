{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='product_version_id',
    on_schema_change='fail',
    pre_hook="{{ delete_versions_since_change(ref('base_dummyjson__products_batches')) }}",
    post_hook="{{ store_batches(ref('base_dummyjson__products_batches')) }}",
) }}

select
    product_id || '-' || _batch_id as product_version_id,
    *
from (
    {{ history(
        staging=ref('stg_dummyjson__products'),
        batches=ref('base_dummyjson__products_batches'),
        keys=['product_id'],
        attributes=[
            'sku', 'product_title', 'brand', 'category', 'price', 'discount_percentage', 'minimum_order_quantity', 'weight'
        ],
    ) }}
)
