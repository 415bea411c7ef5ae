{#- Where the mart and the base layer differ: batches that came and batches that went. -#}
{% macro changed_batches(batches) -%}
    {{ new_batches(batches) }}
    {%- if is_incremental() %}
    union all
    {{ removed_batches(batches) }}
    {%- endif %}
{%- endmacro %}
