{#-
    What was found in each batch: rows, ids, keys with their types, and the values that staging could not cast.

    Computed once a batch, when it comes, and again when the declaration of its source changes (`checked_as`), because the
    views then read it in another way.
-#}
{% macro loaded_batches(manifests, records) -%}
    {%- set source_name = source_of(manifests.identifier) -%}
    {%- set checked_as = checks_of(source_name) -%}
    {%- set id = [] -%}
    {%- for key in primary_key(source_name) -%}
        {%- do id.append('(record ->> ' ~ key_path(key_parts(key)) ~ ')') -%}
    {%- endfor -%}
    {%- set held = is_incremental() and 'checked_as' in column_names(this) -%}
with

missing as (

    select *
    from {{ manifests }}
    {%- if held %}
    where _batch_id not in (select _batch_id from {{ this }} where checked_as = '{{ checked_as }}')
    {%- endif %}

),

{# Read several times; kept in memory it would be all new records at once. #}
records as not materialized (

    select *
    from {{ records }}
    where _batch_id in (select _batch_id from missing)

),

ids as (

    select
        _batch_id,
        {%- if id | length > 1 %}
        case when {{ id | join(' is not null and ') }} is not null then [{{ id | join(', ') }}]::text end as id,
        {%- else %}
        {{ id[0] or 'null::text' }} as id,
        {%- endif %}
        count(*) as times
    from records
    group by _batch_id, id

),

counts as (

    select
        _batch_id,
        sum(times)::bigint as loaded_rows,
        {%- if id %}
        list(id order by try_cast(id as bigint), id) filter (times > 1 or id is null) as repeated_ids
        {%- else %}
        null::text[] as repeated_ids
        {%- endif %}
    from ids
    group by _batch_id

),

structures as (

    {# One record of each structure is enough; over all of them json_group_structure needs memory without bound. #}
    select
        _batch_id,
        json_group_structure(record) as structure
    from (
        select
            _batch_id,
            any_value(record) as record
        from records
        group by _batch_id, json_structure(record)
    )
    group by _batch_id

),

uncastable as (

    {{ uncastable_values(source_name) }}

)

select
    missing._batch_id,
    missing._extracted_at,
    missing.manifest_rows,
    coalesce(counts.loaded_rows, 0) as loaded_rows,
    counts.repeated_ids,
    structures.structure,
    {% if is_incremental() %}coalesce(held._loaded_at, {% endif -%}
    '{{ run_started_at }}'::timestamptz{{ ')' if is_incremental() }} as _loaded_at,
    coalesce(missing.reading, 'full') as reading,
    uncastable.problems as uncastable,
    '{{ checked_as }}' as checked_as
from missing
left join counts
    on missing._batch_id = counts._batch_id
left join structures
    on missing._batch_id = structures._batch_id
left join uncastable
    on missing._batch_id = uncastable._batch_id
{%- if is_incremental() %}
left join {{ this }} as held
    on missing._batch_id = held._batch_id
{%- endif %}
{%- endmacro %}
