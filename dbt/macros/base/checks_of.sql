{#- A short text that changes whenever a batch of the source would be checked in another way. -#}
{% macro checks_of(source_name) -%}
    {#- Raise it when the checks change. -#}
    {%- set version = 1 -%}
    {%- set declared = [] -%}
    {%- for key in declared_keys(source_name) if key.type -%}
        {%- do declared.append(key.name ~ ' ' ~ key.type) -%}
    {%- endfor -%}
    {{- return(local_md5([version, primary_key(source_name), declared | sort] | string)[:16]) -}}
{%- endmacro %}
