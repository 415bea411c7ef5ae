with

source as (

    {{ typed_records('dummyjson.users') }}

),

renamed as (

    select
        _batch_id,
        _extracted_at,
        id as user_id,
        age,
        gender,
        role,
        "company.department" as department
    from source

)

select * from renamed
