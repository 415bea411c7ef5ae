with

source as (

    {{ typed_records('dummyjson.carts') }}

),

renamed as (

    select
        _batch_id,
        _extracted_at,
        id as cart_id,
        "userId" as user_id,
        total,
        "discountedTotal" as discounted_total,
        "totalProducts" as item_count,
        "totalQuantity" as unit_count
    from source

)

select * from renamed
