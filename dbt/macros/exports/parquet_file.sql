{#-
    A model that is a Parquet file beside the warehouse, for readers that should not need the warehouse.

    DuckDB writes the file under another name and renames it into place, so a reader sees the old file or the new
    one, whole. Not dbt-duckdb's `external`: that writes a row of nulls for an empty table, and its first write is
    not atomic.
-#}
{% materialization parquet_file, adapter='duckdb' -%}
    {%- set folder = env_var('BATON_EXPORTS', warehouse_folder()) -%}
    {%- set file = (folder ~ '/' ~ config.require('file_name')) | replace("'", "''") -%}
    {{ run_hooks(pre_hooks) }}
    {% call statement('main') -%}
        copy ({{ sql }}) to '{{ file }}' (format parquet, compression zstd, use_tmp_file true)
    {%- endcall %}
    {{ run_hooks(post_hooks) }}
    {{ adapter.commit() }}
    {{ return({'relations': []}) }}
{%- endmaterialization %}


{% macro warehouse_folder() -%}
    {{- return(modules.re.sub('/?[^/]*$', '', env_var('BATON_WAREHOUSE', '../data/warehouse.duckdb')) or '.') -}}
{%- endmacro %}
