with

source as (

    {{ typed_items('dummyjson.products', 'reviews[]') }}

),

renamed as (

    select
        _batch_id,
        _extracted_at,
        id as product_id,
        _position as review_position,
        "reviews[].rating" as stars,
        "reviews[].date" as reviewed_at
    from source

)

select * from renamed
