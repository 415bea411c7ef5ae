{#- The newest full reading of a source: what it holds existed then, and nothing else did. -#}
{% macro latest_batch(batches) -%}
    select _batch_id
    from {{ batches }}
    where reading = 'full'
    order by _extracted_at desc, _batch_id desc
    limit 1
{%- endmacro %}
