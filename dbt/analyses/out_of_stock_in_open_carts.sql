-- Which products in open carts are out of stock?
select
    products.product_id,
    products.product_title,
    count(distinct items.cart_id) as carts,
    sum(items.quantity)::bigint as units
from {{ ref('fct_cart_items') }} as items
inner join {{ ref('dim_products') }} as products
    on items.product_id = products.product_id
where products.stock = 0
group by products.product_id, products.product_title
order by units desc
