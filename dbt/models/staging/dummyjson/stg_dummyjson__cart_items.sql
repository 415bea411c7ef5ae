with

source as (

    select * from {{ ref('base_dummyjson__carts') }}

),

renamed as (

    select
        source._batch_id,
        source._extracted_at,
        (source.record ->> 'id')::bigint as cart_id,
        items.position as item_position,
        (source.record ->> 'userId')::bigint as user_id,
        (items.record ->> 'id')::bigint as product_id,
        (items.record ->> 'price')::decimal(12, 2) as unit_price,
        (items.record ->> 'quantity')::bigint as quantity,
        (items.record ->> 'discountPercentage')::decimal(6, 2) as discount_percentage,
        (items.record ->> 'total')::decimal(14, 2) as total,
        (items.record ->> 'discountedTotal')::decimal(14, 2) as discounted_total
    from source
    cross join unnest(source.record -> '$.products[*]') with ordinality as items (record, position)

)

select * from renamed
