with

latest as (

    {{ latest_batch(ref('base_dummyjson__users_batches')) }}

)

select
    user_id,
    age,
    gender,
    role,
    department,
    _batch_id,
    _extracted_at
from {{ ref('stg_dummyjson__users') }}
where _batch_id in (select _batch_id from latest)
