{#-
    The keys that `__sources.yml` declares for a source, each with

    - `name`: as it is written there, such as `reviews[].rating`;
    - `parts`: its path, such as `['.reviews', '[]', '.rating']`;
    - `type`: the SQL type that staging casts it to; none for a key that no model reads;
    - `kind`: what that is in JSON.
-#}
{% macro declared_keys(source_name) -%}
    {%- set keys = [] -%}
    {%- set node = declaration(source_name) -%}
    {%- for column in (node.columns.values() if node else []) -%}
        {%- set type = column.data_type | lower if column.data_type else none -%}
        {%- do keys.append({
            'name': column.name,
            'parts': key_parts(column.name),
            'type': type,
            'kind': json_kind(type, source_name, column.name) if type else none,
        }) -%}
    {%- endfor -%}
    {{- return(keys) -}}
{%- endmacro %}
