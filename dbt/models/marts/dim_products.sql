with

{# A batch is a complete reading, so the latest one holds every current product and no other. #}
latest as (

    {{ latest_batch(ref('base_dummyjson__products_batches')) }}

)

select
    product_id,
    sku,
    product_title,
    brand,
    category,
    price,
    discount_percentage,
    rating,
    stock,
    availability_status,
    minimum_order_quantity,
    weight,
    image_count,
    review_count,
    _batch_id,
    _extracted_at
from {{ ref('stg_dummyjson__products') }}
where _batch_id in (select _batch_id from latest)
