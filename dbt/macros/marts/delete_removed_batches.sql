{% macro delete_removed_batches(batches) -%}
    {%- if is_incremental() -%}
        delete from {{ this }}
        where _batch_id in (select _batch_id from ({{ removed_batches(batches) }}))
    {%- endif -%}
{%- endmacro %}
