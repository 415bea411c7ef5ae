-- What changed since yesterday? Yesterday is the day before the latest batch.
with

today as (

    select max(_extracted_at) as now
    from {{ ref('dim_products') }}

),

versions as (

    select history.*
    from {{ ref('dim_products_history') }} as history
    cross join today
    where history.valid_to is null or history.valid_to > today.now - interval 1 day

),

first_and_last as (

    select
        versions.product_id,
        arg_max(versions.product_title, versions.valid_from) as product_title,
        max(versions.price) filter (
            versions.valid_from <= today.now - interval 1 day
        ) as price_yesterday,
        max(versions.price) filter (versions.is_current) as price_today,
        count(*) as versions
    from versions
    cross join today
    group by versions.product_id

)

select
    product_id,
    product_title,
    case
        when price_yesterday is null then 'new'
        when price_today is null then 'gone'
        else 'changed'
    end as change,
    price_yesterday,
    price_today
from first_and_last
where versions > 1 or price_yesterday is null or price_today is null
order by product_id
