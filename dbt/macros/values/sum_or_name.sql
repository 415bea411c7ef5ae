{#-
    A sum over values of a batch, as a type that may be too small for it. It then stops the build and names the batch, the
    keys, the group and its largest record, which DuckDB's own message does not.
-#}
{% macro sum_or_name(value, type, source_name, by, id) -%}
case
        when try_cast(sum({{ value }}) as {{ type }}) is null and count({{ value }}) > 0
            then error(format(
                '{} batch {}: {} of {} {} is {}, more than {} holds; most of it is {} {}: {}',
                '{{ source_name }}', min(_batch_id), '{{ value | replace('*', 'times') }}', '{{ by }}', {{ by }},
                sum({{ value }})::text, '{{ type }}', '{{ id }}', arg_max({{ id }}, {{ value }}), max({{ value }})::text
            ))
        else try_cast(sum({{ value }}) as {{ type }})
    end
{%- endmacro %}
