with

source as (

    select * from {{ ref('base_dummyjson__carts') }}

),

renamed as (

    select
        _batch_id,
        _extracted_at,
        (record ->> 'id')::bigint as cart_id,
        (record ->> 'userId')::bigint as user_id,
        (record ->> 'total')::decimal(14, 2) as total,
        (record ->> 'discountedTotal')::decimal(14, 2) as discounted_total,
        (record ->> 'totalProducts')::bigint as item_count,
        (record ->> 'totalQuantity')::bigint as unit_count
    from source

)

select * from renamed
