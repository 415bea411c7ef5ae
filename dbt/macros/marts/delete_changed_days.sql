{% macro delete_changed_days(batches) -%}
    {%- if is_incremental() -%}
        delete from {{ this }}
        where summary_date in (select {{ utc_day('_extracted_at') }} from ({{ changed_batches(batches) }}))
    {%- endif -%}
{%- endmacro %}
