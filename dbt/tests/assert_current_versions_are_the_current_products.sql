-- An error: exactly one current version for each current product, and for no other.
with

current_versions as (

    select
        product_id,
        count(*) as versions
    from {{ ref('dim_products_history') }}
    where is_current
    group by product_id

)

select
    coalesce(products.product_id, current_versions.product_id) as product_id,
    current_versions.versions
from {{ ref('dim_products') }} as products
full join current_versions
    on products.product_id = current_versions.product_id
where products.product_id is null or current_versions.versions is distinct from 1
