-- Which categories sell best? A product that has gone still counts, in the category that it had last.
with

products as (

    select
        product_id,
        arg_max(category, valid_from) as category
    from {{ ref('dim_products_history') }}
    group by product_id

)

select
    products.category,
    sum(items.quantity)::bigint as units,
    sum(items.discounted_total) as revenue
from {{ ref('fct_cart_items') }} as items
inner join products
    on items.product_id = products.product_id
group by products.category
order by revenue desc, category desc
