{#- Batches that the mart was made from and that have been quarantined since. -#}
{% macro removed_batches(batches) -%}
    select _batch_id, _extracted_at
    from {{ stored_batches() }}
    where _batch_id not in (select _batch_id from {{ batches }})
{%- endmacro %}
