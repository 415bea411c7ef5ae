{#-
    What exists today of a source that is read by changes: `_batch_id` and `_row_number` of the current record of each
    `primary_key`. `version` is the key whose value grows with each change, usually the source's cursor.

        where (_batch_id, _row_number) in ({{ current_records('base_shop__orders', version='updated_at') }})

    Of a key, the record with the greatest version counts, then the one read last, so the order in which batches come,
    and what they repeat, change nothing. The newest full reading, where there is one, says what had not been deleted by then.
-#}
{% macro current_records(base, version) -%}
    {%- set source_name = source_of(base) -%}
    {%- set batches = ref(base ~ '_batches') -%}
    {%- set keys = primary_key(source_name) -%}
    {%- if execute and not keys -%}
        {%- do exceptions.raise_compiler_error(source_name ~ ": current_records expects a primary_key in __sources.yml") -%}
    {%- endif %}
    select
        records._batch_id,
        records._row_number
    from ({{ typed_records(source_name) }}) as records
    inner join {{ batches }} as batches
        on records._batch_id = batches._batch_id
    where
        records._batch_id in ({{ latest_batch(batches) }})
        or (
            batches.reading = 'changes'
            and records._extracted_at >= coalesce(
                (select max(_extracted_at) from {{ batches }} where reading = 'full'), '-infinity'
            )
        )
    qualify
        row_number() over (
            partition by {% for key in keys %}records."{{ key }}"{{ ', ' if not loop.last }}{% else %}1{% endfor %}
            order by
                records."{{ version }}" desc nulls last,
                records._extracted_at desc,
                records._batch_id desc,
                records._row_number desc
        ) = 1
{%- endmacro %}
