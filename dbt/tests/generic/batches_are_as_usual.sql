{#-
    Warnings about a batch: what somebody should look at, while the marts are right. They are about the batches of the last
    load, and are gone with the next. One line for each kind and batch, however many keys it is about.

    - volume: far fewer rows than in the full reading before, or none at all.
    - keys: one that the source's declaration does not have, or one from there that no record has, or null in all.
-#}
{% test batches_are_as_usual(model, source_name, table_name) %}
    {% set name = source_name ~ '.' ~ table_name %}
    {% set problems -%}
        with
        batches as (
            select *, lag(loaded_rows) over (partition by reading order by _extracted_at, _batch_id) as rows_before
            from {{ model }}
            qualify _loaded_at = max(_loaded_at) over ()
        ),
        structures as ({{ keys_found('batches') }}),
        found as (
            select batches._batch_id, structures.parts, structures.key, structures.type
            from batches
            inner join structures
                on batches.structure = structures.structure
        ),
        declared as ({{ keys_declared(name) }}),
        -- items of lists that are all empty, of which nothing is known
        empty_lists as (
            select _batch_id, parts
            from found
            where type = 'null' and parts[-1] = '[]'
        ),
        new as (
            select found._batch_id, format('{} ({})', found.key, found.type) as key
            from found
            anti join declared
                on found.parts = list_slice(declared.parts, 1, length(found.parts))
            where found.type not in ('object', 'list')
        ),
        expected as (
            select batches._batch_id, declared.key, declared.parts
            from batches
            cross join declared
            anti join empty_lists
                on
                    batches._batch_id = empty_lists._batch_id
                    and empty_lists.parts = list_slice(declared.parts, 1, length(empty_lists.parts))
            where batches.loaded_rows > 0
        ),
        missing as (
            select expected._batch_id, expected.key, found.type is null as is_missing
            from expected
            left join found
                on
                    expected._batch_id = found._batch_id
                    and expected.parts = found.parts
            where coalesce(found.type, 'null') = 'null'
        ),
        problems as (
            select
                _batch_id,
                format('{} rows after {} in the batch before', loaded_rows, coalesce(rows_before::text, 'none'))
                    as problem
            from batches
            where reading = 'full' and (loaded_rows = 0 or loaded_rows < rows_before * {{ var('volume_warn_below') }})
            union all
            select _batch_id, {{ keys_that('key', 'is new', 'are new') }}
            from new
            group by _batch_id
            union all
            select _batch_id, {{ keys_that('key', 'is missing in every record', 'are missing in every record') }}
            from missing
            where is_missing
            group by _batch_id
            union all
            select _batch_id, {{ keys_that('key', 'is null in every record', 'are null in every record') }}
            from missing
            where not is_missing
            group by _batch_id
        )
        select format('{} batch {}: {}', '{{ name }}', _batch_id, problem) as problem
        from problems
    {%- endset %}
    {{ report(problems) }}
{% endtest %}
