{#-
    A record whose numbers keep all their digits when DuckDB takes them out.

    DuckDB reads a JSON number that has a fraction or an exponent as a double, so 12345678901234567890.12 would lose
    digits. Up to 15 digits a double keeps them all. In a record with more of them somewhere, each number becomes text:
    the pattern passes over strings, marks what is a number with form feeds, which JSON never holds, and makes the marks
    quotes.
-#}
{% macro exact_numbers(record) -%}
case
    when regexp_matches({{ record }}::text, '[0-9][0-9.]{15}')
        then replace(
            replace(
                regexp_replace(
                    {{ record }}::text,
                    '((?:[^"0-9-]|"(?:[^"\\]|\\.)*")+)|(-?[0-9][0-9.eE+-]*)',
                    e'\\1\f\\2\f',
                    'g'
                ),
                e'\f\f', ''
            ),
            e'\f', '"'
        )::json
    else {{ record }}
end
{%- endmacro %}
