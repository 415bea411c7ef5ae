with

source as (

    select * from {{ ref('base_dummyjson__products') }}

),

renamed as (

    select
        source._batch_id,
        source._extracted_at,
        (source.record ->> 'id')::bigint as product_id,
        tags.position as tag_position,
        tags.record ->> '$' as tag
    from source
    cross join unnest(source.record -> '$.tags[*]') with ordinality as tags (record, position)

)

select * from renamed
