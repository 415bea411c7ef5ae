{#-
    Before the first node: which marts and exports this invocation is about to build. What was begun and never passed
    its tests is not published (flows/warehouse/publishing.py), whether a test failed or the process was killed.
-#}
{% macro note_mart_builds() -%}
    {%- set rows = [] -%}
    {%- for id in (selected_resources if execute and flags.WHICH in ('build', 'run') else []) -%}
        {%- set node = graph.nodes.get(id) -%}
        {%- if node and node.resource_type == 'model' and node.config.materialized == 'parquet_file' -%}
            {%- do rows.append("('" ~ invocation_id ~ "', '" ~ node.config.file_name ~ "', now())") -%}
        {%- elif node and node.resource_type == 'model' and node.schema == 'marts' -%}
            {%- do rows.append("('" ~ invocation_id ~ "', '" ~ node.alias ~ "', now())") -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if rows -%}
        create schema if not exists ops;
        create table if not exists ops.mart_builds (invocation_id text, mart text, started_at timestamptz);
        insert into ops.mart_builds values {{ rows | join(', ') }};
    {%- endif -%}
{%- endmacro %}
