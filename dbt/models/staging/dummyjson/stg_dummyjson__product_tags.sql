with

source as (

    {{ typed_items('dummyjson.products', 'tags[]') }}

),

renamed as (

    select
        _batch_id,
        _extracted_at,
        id as product_id,
        _position as tag_position,
        "tags[]" as tag
    from source

)

select * from renamed
