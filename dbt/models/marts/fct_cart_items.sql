with

latest as (

    {{ latest_batch(ref('base_dummyjson__carts_batches')) }}

)

select
    cart_id || '-' || item_position as cart_item_id,
    cart_id,
    item_position,
    user_id,
    product_id,
    unit_price,
    quantity,
    discount_percentage,
    total,
    discounted_total,
    _batch_id,
    _extracted_at
from {{ ref('stg_dummyjson__cart_items') }}
where _batch_id in (select _batch_id from latest)
