{{ config(materialized='incremental', incremental_strategy='append') }}

select
    batch_id,
    id
from read_json('{{ env_var("NAIVE_FILE") }}', format = 'newline_delimited', columns = {batch_id: 'text', id: 'bigint'})
