{{ config(file_name='fct_cart_items.parquet') }}

select *
from {{ ref('fct_cart_items') }}
