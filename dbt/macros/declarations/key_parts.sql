{#-
    The path of a key as a list: `reviews[].rating` -> `['.reviews', '[]', '.rating']`. A part is `.` and a key of an
    object, or `[]` for the items of a list, so no key can be taken for anything else. In a name, a key that holds a dot,
    a bracket or a quote is in double quotes: `"company.department"`, `"say \"hi\""`.
-#}
{% macro key_parts(name) -%}
    {%- set token = '"((?:[^"\\\\]|\\\\.)*)"|(\\[\\])|([^."\\[\\]]+)' -%}
    {%- if not modules.re.fullmatch('(?:' ~ token ~ ')(?:\\[\\]|\\.(?:' ~ token ~ '))*', name) -%}
        {%- do exceptions.raise_compiler_error(
            "__sources.yml: expected a key such as price, reviews[].rating or \"a.b\", got " ~ name
        ) -%}
    {%- endif -%}
    {%- set parts = [] -%}
    {%- for quoted, items, plain in modules.re.findall(token, name) -%}
        {%- do parts.append('[]' if items else '.' ~ (plain or modules.re.sub('\\\\(.)', '\\1', quoted))) -%}
    {%- endfor -%}
    {{- return(parts) -}}
{%- endmacro %}
