with

source as (

    select * from {{ ref('base_dummyjson__products') }}

),

renamed as (

    select
        _batch_id,
        _extracted_at,
        (record ->> 'id')::bigint as product_id,
        record ->> 'sku' as sku,
        record ->> 'title' as product_title,
        record ->> 'brand' as brand,
        record ->> 'category' as category,
        (record ->> 'price')::decimal(12, 2) as price,
        (record ->> 'discountPercentage')::decimal(6, 2) as discount_percentage,
        (record ->> 'rating')::decimal(4, 2) as rating,
        (record ->> 'stock')::bigint as stock,
        record ->> 'availabilityStatus' as availability_status,
        (record ->> 'minimumOrderQuantity')::bigint as minimum_order_quantity,
        (record ->> 'weight')::decimal(10, 2) as weight,
        coalesce(json_array_length(record -> 'images'), 0)::bigint as image_count,
        coalesce(json_array_length(record -> 'reviews'), 0)::bigint as review_count
    from source

)

select * from renamed
