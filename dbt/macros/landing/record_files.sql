{#- The files of the batches' records. In an object store their name is made from their sha256, which the manifest has. -#}
{% macro record_files(folder, batch_ids) -%}
    {%- if '://' in folder -%}
        {%- set names -%}
            select batch_id, sha256
            from read_json(
                [{{ batch_files(folder, batch_ids, 'manifest.json') }}],
                columns = {batch_id: 'text', sha256: 'text'}, hive_partitioning = false
            )
            where regexp_full_match(sha256, '[0-9a-f]{64}')
            order by batch_id
        {%- endset -%}
        {%- for batch_id, sha256 in run_query(names).rows -%}
            {{- batch_files(folder, [batch_id], 'records-' ~ sha256 ~ '.jsonl.gz') }}{{ ', ' if not loop.last }}
        {%- endfor -%}
    {%- else -%}
        {{ batch_files(folder, batch_ids, 'records.jsonl.gz') }}
    {%- endif -%}
{%- endmacro %}
