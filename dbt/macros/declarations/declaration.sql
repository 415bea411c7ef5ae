{#- What `__sources.yml` says of a source such as `dummyjson.products`: its node in dbt's graph; none while dbt parses. -#}
{% macro declaration(source_name) -%}
    {%- if execute and not graph.sources -%}
        {{- return(declaration_in_file(source_name)) -}}
    {%- endif -%}
    {%- for node in (graph.sources.values() if execute else []) if node.source_name ~ '.' ~ node.name == source_name -%}
        {{- return(node) -}}
    {%- endfor -%}
    {{- return(none) -}}
{%- endmacro %}
