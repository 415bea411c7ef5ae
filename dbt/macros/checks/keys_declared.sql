{#- Every key in the source's declaration; without a kind where no model reads it. -#}
{% macro keys_declared(source_name) -%}
    {%- set keys = [] -%}
    {%- for key in declared_keys(source_name) -%}
        {%- set values = [] -%}
        {%- for value in [key.name] + key.parts -%}
            {%- do values.append("'" ~ (value | replace("'", "''")) ~ "'") -%}
        {%- endfor -%}
        {%- set kind = "'" ~ key.kind ~ "'" if key.kind else 'null' -%}
        {%- do keys.append('(' ~ values[0] ~ ', [' ~ (values[1:] | join(', ')) ~ '], ' ~ kind ~ ')') -%}
    {%- endfor -%}
    select
        key,
        parts,
        kind
    from (values {{ keys | join(', ') or "('', ['.'], null)" }}) as declared (key, parts, kind)
    {{ 'where false' if not keys }}
{%- endmacro %}
