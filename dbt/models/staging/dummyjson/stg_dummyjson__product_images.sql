with

source as (

    select * from {{ ref('base_dummyjson__products') }}

),

renamed as (

    select
        source._batch_id,
        source._extracted_at,
        (source.record ->> 'id')::bigint as product_id,
        images.position as image_position,
        images.record ->> '$' as image_url
    from source
    cross join unnest(source.record -> '$.images[*]') with ordinality as images (record, position)

)

select * from renamed
