{#-
    The text of a JSON value as a value of a SQL type: exact, and the same in every session. With `try_cast` null for text
    that is no such value.

    - A number is never a double on its way, and half is rounded away from zero.
    - A time without a zone is UTC. DuckDB would take the reader's zone.
-#}
{% macro cast_text(value, type, how='cast') -%}
    {%- set name = type.split('(')[0].strip() -%}
    {%- if name in ('text', 'varchar') -%}
        {{ value }}
    {%- elif name in ('decimal', 'numeric') -%}
        {{ how }}(
            case when contains(lower({{ value }}), 'e') then {{ without_exponent(value) }} else {{ value }} end as {{ type }}
        )
    {%- elif name == 'timestamptz' -%}
        case
            when regexp_matches({{ value }}, ':.*[A-Za-z+-]') then {{ how }}({{ value }} as timestamptz)
            else {{ how }}({{ value }} as timestamp) at time zone 'UTC'
        end
    {%- elif name == 'timestamp' -%}
        ({{ cast_text(value, 'timestamptz', how) }}) at time zone 'UTC'
    {%- elif json_kind(type) == 'integer' and how == 'try_cast' -%}
        {#- DuckDB rounds 1.5 and takes 1e3. -#}
        case when regexp_full_match({{ value }}, '-?[0-9]+') then try_cast({{ value }} as {{ type }}) end
    {%- else -%}
        {{ how }}({{ value }} as {{ type }})
    {%- endif -%}
{%- endmacro %}
