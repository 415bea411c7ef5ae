{#-
    Incremental marts keep, in `<mart>__batches`, the batches they were made from. It is written in the mart's own
    transaction, so mart and list cannot disagree, whatever is killed when. What differs from the base layer's list
    is the work to do: batches that came, in whatever order, and batches that were set aside.
-#}

{% macro remember_batches(batches) -%}
    create or replace table {{ remembered_batches() }} as
    select _batch_id, _extracted_at from {{ batches }}
{%- endmacro %}


{% macro remembered_batches() -%}
    {{ this.incorporate(path={'identifier': this.identifier ~ '__batches'}) }}
{%- endmacro %}


{#- Batches that the mart lacks; all of them when it is built whole. -#}
{% macro new_batches(batches) -%}
    select _batch_id, _extracted_at
    from {{ batches }}
    {%- if is_incremental() %}
    where _batch_id not in (select _batch_id from {{ remembered_batches() }})
    {%- endif %}
{%- endmacro %}


{#- Batches that the mart was made from and that have been set aside since. -#}
{% macro gone_batches(batches) -%}
    select _batch_id, _extracted_at
    from {{ remembered_batches() }}
    where _batch_id not in (select _batch_id from {{ batches }})
{%- endmacro %}


{#- Both: where the mart and the base layer differ. -#}
{% macro changed_batches(batches) -%}
    {{ new_batches(batches) }}
    {%- if is_incremental() %}
    union all
    {{ gone_batches(batches) }}
    {%- endif %}
{%- endmacro %}


{#- The newest complete reading of a source: what it holds exists today, and nothing else does. -#}
{% macro latest_batch(batches) -%}
    select _batch_id
    from {{ batches }}
    order by _extracted_at desc, _batch_id desc
    limit 1
{%- endmacro %}


{% macro utc_day(moment) -%}
    ({{ moment }} at time zone 'UTC')::date
{%- endmacro %}


{% macro forget_gone_batches(batches) -%}
    {%- if is_incremental() -%}
        delete from {{ this }}
        where _batch_id in (select _batch_id from ({{ gone_batches(batches) }}))
    {%- endif -%}
{%- endmacro %}


{% macro forget_changed_days(batches) -%}
    {%- if is_incremental() -%}
        delete from {{ this }}
        where summary_date in (select {{ utc_day('_extracted_at') }} from ({{ changed_batches(batches) }}))
    {%- endif -%}
{%- endmacro %}


{% macro forget_versions_since_change(batches) -%}
    {%- if is_incremental() -%}
        delete from {{ this }}
        where valid_from >= (select min(_extracted_at) from ({{ changed_batches(batches) }}))
    {%- endif -%}
{%- endmacro %}


{#- `{sku: table.sku, ...}`: one value to compare, in which null is a value too. -#}
{% macro struct_of(columns, table) -%}
    {
    {%- for column in columns %}{{ column }}: {{ table }}.{{ column }}{{ ', ' if not loop.last }}{% endfor -%}
    }
{%- endmacro %}
