{#- These columns of a table as one struct, to compare them at once. -#}
{% macro struct_of(columns, table) -%}
    {
    {%- for column in columns %}{{ column }}: {{ table }}.{{ column }}{{ ', ' if not loop.last }}{% endfor -%}
    }
{%- endmacro %}
