-- Which customers have the most in their carts?
select
    users.user_id,
    users.gender,
    users.department,
    count(distinct items.cart_id) as carts,
    sum(items.discounted_total) as spend
from {{ ref('fct_cart_items') }} as items
inner join {{ ref('dim_users') }} as users
    on items.user_id = users.user_id
group by users.user_id, users.gender, users.department
order by spend desc
