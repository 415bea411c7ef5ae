{#- A batch that was quarantined after it had been loaded leaves the base layer, and with it every mart. -#}
{% macro delete_quarantined_batches(source_name) -%}
    {{ conflict_with_others() }}
    {%- if is_incremental() and quarantine_exists() -%}
        delete from {{ this }}
        where _batch_id in (select batch_id from ops.quarantine where source = '{{ source_name }}')
    {%- endif -%}
{%- endmacro %}
