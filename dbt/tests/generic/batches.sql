{#-
    Checks of a batch. All read the `_batches` table, a row a batch, so their cost does not grow with the records, and
    each names what it found. Few nodes with many checks, because every node of a build costs a twentieth of a second.
-#}

{#-
    Errors: what would make the marts wrong. They look at every batch that is held, so they come back in each build
    until the batch is set aside or accepted.

    - rows: as many were loaded as the manifest says.
    - ids: every record has one, and no other record of the batch has the same.
    - types: a key that a model reads has the type that the source's description gives it.
    - volume: a batch with next to nothing of what the batch before had would close most of the history.
-#}
{% test batches_are_sound(model, source_name, table_name) %}
    {% set problems -%}
        with
        batches as (
            select *, lag(loaded_rows) over (order by _extracted_at, _batch_id) as rows_before
            from {{ model }}
        ),
        found as ({{ keys_found('batches') }}),
        wanted as ({{ keys_documented(source_name, table_name) }}),
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
                    '{} rows after {} in the batch before; set it aside, or accept it: '
                    || 'accepted_batches in dbt_project.yml',
                    loaded_rows, rows_before
                )
            from batches
            where
                loaded_rows < rows_before
                and loaded_rows <= rows_before * {{ var('volume_error_at') }}
                and _batch_id not in ('{{ var('accepted_batches') | join("', '") }}')
            union all
            select
                batches._batch_id,
                format(
                    'key {} is {}, expected {}', found.key, found.type,
                    case when wanted.key = found.key then wanted.type else 'what holds ' || wanted.key end
                )
            from found
            inner join wanted
                on
                    found.key = wanted.key
                    and found.type not in ('null', wanted.type)
                    and not (found.type = 'integer' and wanted.type = 'number')
                    -- a plain value where keys or items are expected
                    or found.type not in ('null', 'object', 'list')
                    and (
                        found.key = ''
                        or starts_with(replace(wanted.key, '[]', '.[]'), replace(found.key, '[]', '.[]') || '.')
                    )
            inner join batches
                on found.structure = batches.structure
            where wanted.type is not null
        )
        select format('{}.{} batch {}: {}', '{{ source_name }}', '{{ table_name }}', _batch_id, problem) as problem
        from problems
    {%- endset %}
    {{ named(problems) }}
{% endtest %}


{#-
    Warnings: what somebody should look at, while the marts are right. They speak of the batches of the last load, and
    are gone with the next.

    - volume: far fewer rows than in the batch before, or none at all.
    - keys: one that the source's description does not have, or one from there that no record has.
-#}
{% test batches_are_as_usual(model, source_name, table_name) %}
    {% set problems -%}
        with
        batches as (
            select *, lag(loaded_rows) over (order by _extracted_at, _batch_id) as rows_before
            from {{ model }}
            qualify _loaded_at = max(_loaded_at) over ()
        ),
        structures as ({{ keys_found('batches') }}),
        found as (
            select batches._batch_id, structures.key, structures.type
            from batches
            inner join structures
                on batches.structure = structures.structure
        ),
        wanted as ({{ keys_documented(source_name, table_name) }}),
        problems as (
            select
                _batch_id,
                format('{} rows after {} in the batch before', loaded_rows, coalesce(rows_before::text, 'none'))
                    as problem
            from batches
            where loaded_rows = 0 or loaded_rows < rows_before * {{ var('volume_warn_below') }}
            union all
            select _batch_id, format('key {} is new: {}', key, type)
            from found
            where type not in ('null', 'object', 'list') and key not in (select key from wanted)
            union all
            select batches._batch_id, format('key {} is missing in every record', wanted.key)
            from batches
            cross join wanted
            where
                batches.loaded_rows > 0
                and (batches._batch_id, wanted.key) not in (select (_batch_id, key) from found)
                -- of lists that are all empty nothing is known
                and (batches._batch_id, regexp_replace(wanted.key, '\[\].*', '[]')) not in (
                    select (_batch_id, key) from found where type = 'null'
                )
        )
        select format('{}.{} batch {}: {}', '{{ source_name }}', '{{ table_name }}', _batch_id, problem) as problem
        from problems
    {%- endset %}
    {{ named(problems) }}
{% endtest %}
