{#- `dummyjson.products` -> the name of its base model, `base_dummyjson__products`. -#}
{% macro base_of(source_name) -%}
    {{- return('base_' ~ (source_name | replace('.', '__'))) -}}
{%- endmacro %}
