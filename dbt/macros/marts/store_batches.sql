{#-
    Incremental marts keep, in `<mart>__batches`, the batches they were made from. It is written in the mart's own
    transaction, so mart and list cannot disagree, whatever is killed when. Where it differs from the base layer's list,
    there is something to do: batches that came, in whatever order, and batches that were quarantined.
-#}
{% macro store_batches(batches) -%}
    create or replace table {{ stored_batches() }} as
    select _batch_id, _extracted_at from {{ batches }}
{%- endmacro %}
