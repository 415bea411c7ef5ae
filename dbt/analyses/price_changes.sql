-- How did the price of each product change over time?
select
    product_id,
    product_title,
    lag(price) over versions as price_before,
    price,
    valid_from as changed_at
from {{ ref('dim_products_history') }}
window versions as (partition by product_id order by valid_from)
qualify price <> price_before
order by product_id, changed_at
