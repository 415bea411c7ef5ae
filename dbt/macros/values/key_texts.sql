{#- The values of these keys as a list of texts, `position` among the keys; DuckDB then parses a record once for all of them. -#}
{% macro key_texts(record, keys) -%}
    {{ record }} ->> [
    {%- for key in keys -%}
        {{ key_path(key.parts) }}{{ ', ' if not loop.last }}
    {%- else -%}
        '$'
    {%- endfor -%}
    ]
{%- endmacro %}
