{#-
    The base layer: three models a source, the only ones that look into the landing.

    1. `<base>_manifests`: one row a landed batch, from its manifest. It lists the landing once a build, so all that
       follows speaks of the same batches.
    2. `<base>`: their records, as they came.
    3. `<base>_batches`: one row a batch, with what was found in its records. Every check of a batch reads this
       small table, and every mart asks it which batches there are.

    Each derives what it lacks from what it holds, so a build that was killed anywhere is completed by the next.
    Files to open are put into the query as a literal list, because only then does DuckDB open just those:
    2 of 2,000 in 0.07 s, against all of them where the list is a subquery.
-#}

{% macro landed_manifests(source_relation) -%}
    {%- set folder = landing_folder(source_relation) -%}
    {%- set name = source_relation.schema ~ '.' ~ source_relation.identifier -%}
    {%- set missing -%}
        {#- What publishes a batch: flows/landing_folder.py, flows/landing_objects.py. #}
        {%- set published = 'manifest.json' if '://' in folder else 'records.jsonl.gz' %}
        select regexp_extract(file, 'batch_id=(\d{8}T\d{6}Z-[0-9a-f]{12})/[^/]*$', 1) as batch_id
        from glob('{{ folder }}/batch_id=*/{{ published }}')
        where batch_id <> ''
        {%- if is_incremental() %} and batch_id not in (select _batch_id from {{ this }}) {%- endif %}
        {%- if quarantine_exists() %}
            and batch_id not in (select batch_id from ops.quarantine where source = '{{ name }}')
        {%- endif %}
        order by batch_id
    {%- endset -%}
    {%- set wanted = run_query(missing).columns[0].values() if execute else [] %}
select
    batch_id as _batch_id,
    extracted_at as _extracted_at,
    rows as manifest_rows
    {%- if wanted %}
from
    read_json(
        [{{ quoted_files(folder, wanted, 'manifest.json') }}],
        columns = {batch_id: 'text', extracted_at: 'timestamptz', rows: 'bigint'}
    )
    {{- still_missing('batch_id') }}
    {%- else %}
from (select null::text as batch_id, null::timestamptz as extracted_at, null::bigint as rows)
where false
    {%- endif %}
{%- endmacro %}


{% macro landed_records(source_relation, manifests) -%}
    {%- set wanted = [] -%}
    {%- if execute and load_relation(manifests) is not none -%}
        {%- set missing -%}
            select _batch_id
            from {{ manifests }}
            {%- if is_incremental() %} where _batch_id not in (select distinct _batch_id from {{ this }}) {%- endif %}
            order by _batch_id
        {%- endset -%}
        {%- set wanted = run_query(missing).columns[0].values() -%}
    {%- endif %}
    {#- DuckDB numbers rows in the order of the files only where nothing else, such as a partition, orders them. -#}
with

records as (

    select
        batch_id,
        json as record,
        row_number() over () as row_number
    {%- if wanted %}
    from
        read_ndjson_objects(
            [{{ quoted_records(landing_folder(source_relation), wanted) }}],
            hive_partitioning = true, hive_types_autocast = false
        )
    {%- else %}
    from (select null::text as batch_id, null::json as json)
    where false
    {%- endif %}

)

select
    manifests._batch_id,
    manifests._extracted_at,
    1 + records.row_number - min(records.row_number) over (partition by records.batch_id) as _row_number,
    records.record
from records
inner join {{ manifests }} as manifests
    on records.batch_id = manifests._batch_id
{{- still_missing('records.batch_id') }}
{%- endmacro %}


{#- What was found in each batch: rows, ids, and the keys with their types. Computed once a batch, when it comes. -#}
{% macro loaded_batches(manifests, records) -%}
with

missing as (

    select *
    from {{ manifests }}
    {%- if is_incremental() %}
    where _batch_id not in (select _batch_id from {{ this }})
    {%- endif %}

),

{# Read twice; kept in memory it would be all new records at once. #}
records as not materialized (

    select *
    from {{ records }}
    where _batch_id in (select _batch_id from missing)

),

ids as (

    select
        _batch_id,
        record ->> 'id' as id,
        count(*) as times
    from records
    group by _batch_id, id

),

counts as (

    select
        _batch_id,
        sum(times)::bigint as loaded_rows,
        list(id order by try_cast(id as bigint)) filter (times > 1 or id is null) as repeated_ids
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

)

select
    missing._batch_id,
    missing._extracted_at,
    missing.manifest_rows,
    coalesce(counts.loaded_rows, 0) as loaded_rows,
    counts.repeated_ids,
    structures.structure,
    '{{ run_started_at }}'::timestamptz as _loaded_at
from missing
left join counts
    on missing._batch_id = counts._batch_id
left join structures
    on missing._batch_id = structures._batch_id
{%- endmacro %}


{#- A batch that was set aside after it had been loaded leaves the base layer, and with it every mart. -#}
{% macro forget_quarantined(source_name) -%}
    {{ conflict_with_others() }}
    {%- if is_incremental() and quarantine_exists() -%}
        delete from {{ this }}
        where _batch_id in (select batch_id from ops.quarantine where source = '{{ source_name }}')
    {%- endif -%}
{%- endmacro %}


{% macro forget_batches_without_manifest(manifests) -%}
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


{% macro landing_folder(source_relation) -%}
    {%- set folder = [
        env_var('BATON_LANDING_ROOT', '../data/landing'), source_relation.schema, source_relation.identifier
    ] | join('/') -%}
    {{- return(folder | replace("'", "''")) -}}
{%- endmacro %}


{#- In an object store the records' name is made from their sha256, which the manifest has. -#}
{% macro quoted_records(folder, batch_ids) -%}
    {%- if '://' in folder -%}
        {%- set names -%}
            select batch_id, sha256
            from read_json(
                [{{ quoted_files(folder, batch_ids, 'manifest.json') }}],
                columns = {batch_id: 'text', sha256: 'text'}
            )
            where regexp_full_match(sha256, '[0-9a-f]{64}')
            order by batch_id
        {%- endset -%}
        {%- for batch_id, sha256 in run_query(names).rows -%}
            '{{ folder }}/batch_id={{ batch_id }}/records-{{ sha256 }}.jsonl.gz'{{ ', ' if not loop.last }}
        {%- endfor -%}
    {%- else -%}
        {{ quoted_files(folder, batch_ids, 'records.jsonl.gz') }}
    {%- endif -%}
{%- endmacro %}


{% macro quoted_files(folder, batch_ids, file) -%}
    {%- for batch_id in batch_ids -%}
        '{{ folder }}/batch_id={{ batch_id }}/{{ file }}'{{ ', ' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}


{#- The transform makes the table; dbt by hand may come first. -#}
{% macro quarantine_exists() -%}
    {{ return(execute and adapter.get_relation(target.database, 'ops', 'quarantine') is not none) }}
{%- endmacro %}
