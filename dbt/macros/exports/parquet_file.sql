{#-
    A model that is a Parquet file beside the warehouse, for readers that should not need the warehouse.

    DuckDB writes the file under another name and renames it into place, so a reader sees the old file or the new
    one. A build by the transform leaves it in a folder of its own, from where it is published together with the marts
    (flows/warehouse/publishing.py). Not dbt-duckdb's `external`: that writes a row of nulls for an empty table, and its
    first write is not atomic.
-#}
{% materialization parquet_file, adapter='duckdb' -%}
    {%- set staged = env_var('BATON_STAGED_EXPORTS', '') if flags.WHICH == 'build' -%}
    {%- set folder = env_var('BATON_EXPORTS', warehouse_folder()) -%}
    {%- set name = config.require('file_name') -%}
    {%- set file = (staged ~ '/' ~ invocation_id ~ '.' ~ name if staged else folder ~ '/' ~ name) | replace("'", "''") -%}
    {{ run_hooks(pre_hooks) }}
    {% call statement('main') -%}
        copy ({{ sql }}) to '{{ file }}' (format parquet, compression zstd, use_tmp_file true)
    {%- endcall %}
    {{ run_hooks(post_hooks) }}
    {{ adapter.commit() }}
    {{ return({'relations': []}) }}
{%- endmaterialization %}
