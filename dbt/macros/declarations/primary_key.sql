{#- The keys that identify a record: `primary_key` in the `meta` of the source's table, one, several or none. -#}
{% macro primary_key(source_name) -%}
    {%- set node = declaration(source_name) -%}
    {%- set names = (node.config.meta.get('primary_key') if node else none) or [] -%}
    {{- return([names] if names is string else names) -}}
{%- endmacro %}
