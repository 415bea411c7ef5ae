{{ config(file_name='dim_products.parquet') }}

select *
from {{ ref('dim_products') }}
