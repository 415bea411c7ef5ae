{#-
    The parts of a key as a path for DuckDB, in SQL quotes. A JSON pointer, where every key means itself; only a path
    through lists needs JSONPath, which has no way to write an empty key or `*`.
-#}
{% macro key_path(parts) -%}
    {%- if '[]' not in parts -%}
        {%- set steps = [] -%}
        {%- for part in parts -%}
            {%- do steps.append('/' ~ (part[1:] | replace('~', '~0') | replace('/', '~1'))) -%}
        {%- endfor -%}
        {%- set path = steps | join or '$' -%}
    {%- else -%}
        {%- set steps = ['$'] -%}
        {%- for part in parts -%}
            {%- if part in ('.', '.*') -%}
                {%- do exceptions.raise_compiler_error(
                    "__sources.yml: an empty key or * cannot be read inside a list; leave out its data_type"
                ) -%}
            {%- endif -%}
            {%- do steps.append(
                '[*]' if part == '[]' else '."' ~ (part[1:] | replace('\\', '\\\\') | replace('"', '\\"')) ~ '"'
            ) -%}
        {%- endfor -%}
        {%- set path = steps | join -%}
    {%- endif -%}
    '{{ path | replace("'", "''") }}'
{%- endmacro %}
