{#-
    The declared keys that have a type: those of a record, or with `list_parts` those of the items of that list, their parts
    then counted from the item. Keys inside a list further down belong to its items.
-#}
{% macro typed_keys(source_name, list_parts=[]) -%}
    {%- set keys = [] -%}
    {%- set depth = list_parts | length -%}
    {%- for key in declared_keys(source_name)
        if key.type and key.parts[:depth] == list_parts and '[]' not in key.parts[depth:] -%}
        {%- do keys.append({'name': key.name, 'parts': key.parts[depth:], 'type': key.type}) -%}
    {%- endfor -%}
    {{- return(keys) -}}
{%- endmacro %}
