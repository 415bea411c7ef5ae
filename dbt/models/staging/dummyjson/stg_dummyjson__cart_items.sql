with

source as (

    {{ typed_items('dummyjson.carts', 'products[]') }}

),

renamed as (

    select
        _batch_id,
        _extracted_at,
        id as cart_id,
        _position as item_position,
        "userId" as user_id,
        "products[].id" as product_id,
        "products[].price" as unit_price,
        "products[].quantity" as quantity,
        "products[].discountPercentage" as discount_percentage,
        "products[].total" as total,
        "products[].discountedTotal" as discounted_total
    from source

)

select * from renamed
