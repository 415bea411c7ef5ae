{% macro warehouse_folder() -%}
    {{- return(modules.re.sub('/?[^/]*$', '', env_var('BATON_WAREHOUSE', '../data/warehouse.duckdb')) or '.') -}}
{%- endmacro %}
