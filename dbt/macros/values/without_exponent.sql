{#-
    A number's text without its exponent: 5.5e-7 -> 0000.00000055, with more zeros on both sides than any decimal has digits.

    DuckDB casts text with an exponent to a decimal by its first digits, so that 5.55e-17 becomes 0.01. Text without
    one is cast exactly, whatever its length, and half is rounded away from zero.
-#}
{% macro without_exponent(number) -%}
    {%- set digits = "regexp_replace(" ~ number ~ ", '[-.]|[eE].*', '', 'g')" -%}
    {%- set before_point = "length(regexp_extract(" ~ number ~ ", '^-?([0-9]+)', 1))" -%}
    {%- set exponent = "regexp_extract(" ~ number ~ ", '[eE](.*)', 1)" -%}
    {#- An exponent of more than five digits is as good as the largest of five. -#}
    {%- set shift = "coalesce(try_cast(" ~ exponent ~ " as integer), case when " ~ exponent
        ~ " like '-%' then -99999 else 99999 end)" -%}
    {%- set zeros = "repeat('0', 60)" -%}
    {%- set padded = "concat(" ~ zeros ~ ", " ~ digits ~ ", " ~ zeros ~ ")" -%}
    {%- set point = "greatest(0, 60 + least(" ~ before_point ~ " + " ~ shift ~ ", length(" ~ digits ~ ") + 60))" -%}
concat(
        case when {{ number }} like '-%' then '-' end,
        '0', left({{ padded }}, {{ point }}), '.', substr({{ padded }}, {{ point }} + 1)
    )
{%- endmacro %}
