with

current_orders as (

    {{ current_records('base_shop__orders', version='updated_at') }}

)

select
    order_id,
    customer_number,
    status,
    currency,
    total,
    placed_at,
    updated_at,
    _batch_id,
    _extracted_at
from {{ ref('stg_shop__orders') }}
where (_batch_id, _row_number) in (
    select
        _batch_id,
        _row_number
    from current_orders
)
