{% macro delete_versions_since_change(batches) -%}
    {%- if is_incremental() -%}
        delete from {{ this }}
        where valid_from >= (select min(_extracted_at) from ({{ changed_batches(batches) }}))
    {%- endif -%}
{%- endmacro %}
