{#- The columns that a table has now; one that an earlier version of the project made may lack some. -#}
{% macro column_names(relation) -%}
    {{- return(adapter.get_columns_in_relation(relation) | map(attribute='name') | list if execute else []) -}}
{%- endmacro %}
