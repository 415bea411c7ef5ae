{#- `base_dummyjson__products_manifests` -> `dummyjson.products`. -#}
{% macro source_of(base_model) -%}
    {{- return(modules.re.sub('^base_|_(manifests|batches)$', '', base_model) | replace('__', '.', 1)) -}}
{%- endmacro %}
