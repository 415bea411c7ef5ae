{#- Batches that the mart lacks; all of them when it is rebuilt. -#}
{% macro new_batches(batches) -%}
    select _batch_id, _extracted_at
    from {{ batches }}
    {%- if is_incremental() %}
    where _batch_id not in (select _batch_id from {{ stored_batches() }})
    {%- endif %}
{%- endmacro %}
