{% macro delete_batches_without_manifest(manifests) -%}
    {{ conflict_with_others() }}
    {%- if is_incremental() -%}
        delete from {{ this }}
        where _batch_id in (
            select distinct _batch_id
            from {{ this }}
            where _batch_id not in (select _batch_id from {{ manifests }})
        )
    {%- endif -%}
{%- endmacro %}
