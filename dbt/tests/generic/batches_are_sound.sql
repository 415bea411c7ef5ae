{#-
    Errors of a batch: what would make the marts wrong. They look at every batch that is held, so they come back in each
    build until the batch is quarantined or accepted. The check reads the `_batches` table, a row a batch, so its cost does
    not grow with the records. It is one node with many checks, because every node costs a twentieth of a second.

    - rows: as many were loaded as the manifest says.
    - ids: every record has one, and no other record of the batch has the same.
    - types: a key that a model reads has the type that the source's declaration gives it, and staging can cast each
      of its values.
    - volume: a full reading with next to nothing of what the one before had would close most of the history.
-#}
{% test batches_are_sound(model, source_name, table_name) %}
    {% set name = source_name ~ '.' ~ table_name %}
    {% set problems -%}
        with
        batches as (
            select *, lag(loaded_rows) over (partition by reading order by _extracted_at, _batch_id) as rows_before
            from {{ model }}
        ),
        found as ({{ keys_found('batches') }}),
        declared as ({{ keys_declared(name) }}),
        problems as (
            select
                _batch_id,
                format('{} rows were loaded, its manifest says {}', loaded_rows, manifest_rows) as problem
            from batches
            where loaded_rows <> manifest_rows
            union all
            select
                _batch_id,
                format('ids that more than one record has, or null if a record has none: {}', repeated_ids[:5]::text)
            from batches
            where repeated_ids is not null
            union all
            select
                _batch_id,
                format(
                    '{} rows after {} in the batch before; quarantine it, or accept it: '
                    || 'accepted_batches in dbt_project.yml',
                    loaded_rows, rows_before
                )
            from batches
            where
                reading = 'full'
                and loaded_rows < rows_before
                and loaded_rows <= rows_before * {{ var('volume_error_at') }}
                and _batch_id not in ('{{ var('accepted_batches') | join("', '") }}')
            union all
            select
                _batch_id,
                unnest(uncastable)
            from batches
            union all
            select
                batches._batch_id,
                format(
                    '{} is {}, expected {}', case found.key when '' then 'a record' else 'key ' || found.key end, found.type,
                    case when declared.parts = found.parts then declared.kind else 'what holds ' || declared.key end
                )
            from found
            inner join declared
                on
                    -- a value of another type
                    found.parts = declared.parts
                    and found.type not in ('null', declared.kind)
                    and not (found.type = 'integer' and declared.kind = 'number')
                    -- something else where keys or items are expected
                    or length(found.parts) < length(declared.parts)
                    and found.parts = list_slice(declared.parts, 1, length(found.parts))
                    and found.type not in (
                        'null', case declared.parts[length(found.parts) + 1] when '[]' then 'list' else 'object' end
                    )
            inner join batches
                on found.structure = batches.structure
            where declared.kind is not null
        )
        select format('{} batch {}: {}', '{{ name }}', _batch_id, problem) as problem
        from problems
    {%- endset %}
    {{ report(problems) }}
{% endtest %}
