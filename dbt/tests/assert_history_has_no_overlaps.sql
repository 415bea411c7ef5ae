-- An error: a join of a fact to the history would count twice.
select
    product_id,
    valid_from,
    valid_to,
    lead(valid_from) over (partition by product_id order by valid_from) as next_valid_from
from {{ ref('dim_products_history') }}
qualify valid_from >= valid_to or next_valid_from < coalesce(valid_to, 'infinity')
