{#-
    The base layer: three models a source, the only ones that look into the landing.

    1. `<base>_manifests`: one row a landed batch, from its manifest. It lists the landing once a build, so all that
       follows is about the same batches.
    2. `<base>`: their records, as they came.
    3. `<base>_batches`: one row a batch, with what was found in its records. Every check of a batch reads this
       small table, and every mart asks it which batches there are.

    Each adds what it lacks, so a build that was killed anywhere is completed by the next. Files to open are put into
    the query as a literal list: DuckDB then opens 2 files of 2,000 in 0.07 s, but all of them where the list is a
    subquery.
-#}
{% macro landed_manifests(source_relation) -%}
    {%- set folder = landing_folder(source_relation) -%}
    {%- set name = source_relation.schema ~ '.' ~ source_relation.identifier -%}
    {%- set missing -%}
        {#- What publishes a batch: flows/landing/folder_store.py, flows/landing/object_store.py. #}
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
    {%- set batch_ids = run_query(missing).columns[0].values() if execute else [] %}
select
    batch_id as _batch_id,
    extracted_at as _extracted_at,
    rows as manifest_rows,
    {#- Manifests did not always say it. #}
    coalesce(reading, 'full') as reading
    {%- if batch_ids %}
from
    read_json(
        [{{ batch_files(folder, batch_ids, 'manifest.json') }}],
        columns = {batch_id: 'text', extracted_at: 'timestamptz', rows: 'bigint', reading: 'text'},
        hive_partitioning = false
    )
    {{- still_missing('batch_id') }}
    {%- else %}
from (select null::text as batch_id, null::timestamptz as extracted_at, null::bigint as rows, null::text as reading)
where false
    {%- endif %}
{%- endmacro %}
