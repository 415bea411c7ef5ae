{#- One line for many keys: `key brand is new`, or `7 keys are new: brand, …`, of which it shows five. -#}
{% macro keys_that(names, one, many) -%}
    case count(*)
        when 1 then 'key ' || min({{ names }}) || ' {{ one }}'
        else count(*) || ' keys {{ many }}: ' || array_to_string(list({{ names }} order by {{ names }})[:5], ', ')
            || case when count(*) > 5 then format(' and {} more', count(*) - 5) else '' end
    end
{%- endmacro %}
