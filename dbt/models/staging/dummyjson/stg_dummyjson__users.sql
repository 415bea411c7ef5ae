with

source as (

    select * from {{ ref('base_dummyjson__users') }}

),

renamed as (

    select
        _batch_id,
        _extracted_at,
        (record ->> 'id')::bigint as user_id,
        (record ->> 'age')::bigint as age,
        record ->> 'gender' as gender,
        record ->> 'role' as role,
        record ->> '$.company.department' as department
    from source

)

select * from renamed
