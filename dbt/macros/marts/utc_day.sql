{% macro utc_day(moment) -%}
    ({{ moment }} at time zone 'UTC')::date
{%- endmacro %}
