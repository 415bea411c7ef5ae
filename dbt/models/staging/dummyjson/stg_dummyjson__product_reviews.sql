with

source as (

    select * from {{ ref('base_dummyjson__products') }}

),

renamed as (

    select
        source._batch_id,
        source._extracted_at,
        (source.record ->> 'id')::bigint as product_id,
        reviews.position as review_position,
        (reviews.record ->> 'rating')::bigint as stars,
        (reviews.record ->> 'date')::timestamptz as reviewed_at
    from source
    cross join unnest(source.record -> '$.reviews[*]') with ordinality as reviews (record, position)

)

select * from renamed
