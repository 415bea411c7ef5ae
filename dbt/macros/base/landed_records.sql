{#- The records of the batches that the base model lacks, each as it came and with its position in the batch. -#}
{% macro landed_records(source_relation, manifests) -%}
    {%- set batch_ids = [] -%}
    {%- if execute and load_relation(manifests) is not none -%}
        {%- set missing -%}
            select _batch_id
            from {{ manifests }}
            {%- if is_incremental() %} where _batch_id not in (select distinct _batch_id from {{ this }}) {%- endif %}
            order by _batch_id
        {%- endset -%}
        {%- set batch_ids = run_query(missing).columns[0].values() -%}
    {%- endif %}
    {#- DuckDB numbers rows in the order of the files only where nothing else, such as a partition, orders them. -#}
with

files as (

    select
        json as record,
        filename,
        row_number() over () as row_number
    {%- if batch_ids %}
    from
        read_ndjson_objects(
            [{{ record_files(landing_folder(source_relation), batch_ids) }}],
            {#- A folder such as `json=1` on the way would become a column, and after a ? DuckDB sees no .gz. #}
            hive_partitioning = false, filename = true, compression = 'gzip'
        )
    {%- else %}
    from (select null::json as json, null::text as filename)
    where false
    {%- endif %}

),

records as (

    select
        regexp_extract(filename, 'batch_id=([^/]*)/[^/]*$', 1) as batch_id,
        row_number,
        record
    from files

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
