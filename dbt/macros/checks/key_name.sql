{#- A path as people write it: `reviews[].rating`, `"company.department"`; the inverse of `key_parts`. -#}
{% macro key_name(parts) -%}
    ltrim(array_to_string(list_transform({{ parts }}, lambda part: case
        when part = '[]' or regexp_full_match(part, '\.[^."\[\]]+') then part
        else '."' || replace(replace(part[2:], '\', '\\'), '"', '\"') || '"'
    end), ''), '.')
{%- endmacro %}
