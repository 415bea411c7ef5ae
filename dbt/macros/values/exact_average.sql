{#- The average of a decimal with two digits after the point, half rounded away from zero; DuckDB's `avg` is a double. -#}
{% macro exact_average(column) -%}
(
        (
            (2 * (sum({{ column }}) * 100)::hugeint + sign(sum({{ column }}))::hugeint * count({{ column }}))
            // (2 * count({{ column }}))
        )::decimal(36, 0) * 0.01::decimal(2, 2)
    )
{%- endmacro %}
