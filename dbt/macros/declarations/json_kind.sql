{#- What a value of this SQL type is in JSON: integer, number, text or boolean. -#}
{% macro json_kind(type, source_name, key) -%}
    {%- set kinds = {
        'integer': [
            'tinyint', 'smallint', 'integer', 'int', 'bigint', 'hugeint',
            'utinyint', 'usmallint', 'uinteger', 'ubigint', 'uhugeint',
        ],
        'number': ['decimal', 'numeric', 'double'],
        'text': ['text', 'varchar', 'date', 'time', 'timestamp', 'timestamptz', 'uuid'],
        'boolean': ['boolean'],
    } -%}
    {%- for kind, types in kinds.items() if type.split('(')[0].strip() in types -%}
        {{- return(kind) -}}
    {%- endfor -%}
    {%- do exceptions.raise_compiler_error(
        "__sources.yml: " ~ source_name ~ ": data_type of " ~ key ~ ": expected one of "
        ~ kinds.values() | sum(start=[]) | join(', ') ~ ", got " ~ type
    ) -%}
{%- endmacro %}
