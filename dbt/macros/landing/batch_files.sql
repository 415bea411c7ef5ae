{#- The files of that name in the folders of these batches, as the inside of a list in SQL. -#}
{% macro batch_files(folder, batch_ids, file) -%}
    {%- for batch_id in batch_ids -%}
        '{{ folder }}/batch_id={{ batch_id }}/{{ file }}'{{ ', ' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}
