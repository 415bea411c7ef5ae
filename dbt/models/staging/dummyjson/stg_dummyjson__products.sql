with

source as (

    {{ typed_records('dummyjson.products') }}

),

renamed as (

    select
        _batch_id,
        _extracted_at,
        id as product_id,
        sku,
        title as product_title,
        brand,
        category,
        price,
        "discountPercentage" as discount_percentage,
        rating,
        stock,
        "availabilityStatus" as availability_status,
        "minimumOrderQuantity" as minimum_order_quantity,
        weight,
        coalesce(json_array_length(_record -> 'images'), 0)::bigint as image_count,
        coalesce(json_array_length(_record -> 'reviews'), 0)::bigint as review_count
    from source

)

select * from renamed
