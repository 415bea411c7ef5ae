{#- The condition that a batch is still missing when the transaction begins; see `conflict_with_others`. -#}
{% macro still_missing(batch_id) -%}
    {%- if target.name == 'lake' and is_incremental() %}
where {{ batch_id }} not in (select _batch_id from {{ this }})
    {%- endif -%}
{%- endmacro %}
