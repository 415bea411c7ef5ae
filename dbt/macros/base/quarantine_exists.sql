{#- The transform makes the table; dbt by hand may come first. -#}
{% macro quarantine_exists() -%}
    {{ return(execute and adapter.get_relation(target.database, 'ops', 'quarantine') is not none) }}
{%- endmacro %}
