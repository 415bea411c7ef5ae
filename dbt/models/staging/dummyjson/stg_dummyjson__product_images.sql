with

source as (

    {{ typed_items('dummyjson.products', 'images[]') }}

),

renamed as (

    select
        _batch_id,
        _extracted_at,
        id as product_id,
        _position as image_position,
        "images[]" as image_url
    from source

)

select * from renamed
