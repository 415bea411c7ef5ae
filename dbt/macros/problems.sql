{#-
    A test that says what is wrong. `problems` is a query for one text column, `problem`, a row a problem.

    An error carries the problems in its message, as dbt's "Got 2 results" would not; a warning logs them.
-#}
{% macro named(problems) -%}
    {%- if config.get('severity', 'error') | lower == 'warn' -%}
        {%- if execute and flags.WHICH in ('build', 'test') -%}
            {%- for problem in run_query(problems ~ ' order by problem').columns[0].values() -%}
                {%- do exceptions.warn(problem) -%}
            {%- endfor -%}
        {%- endif -%}
        {{ problems }}
    {%- else -%}
        select problem
        from (select string_agg(problem, e'\n' order by problem) as problem from ({{ problems }}))
        where problem is not null and error(problem) is null
    {%- endif -%}
{%- endmacro %}


{#-
    Every key in the records, with its type: `reviews[].rating`, integer. Once for each structure and not for each batch:
    most batches have one that others have, too.
-#}
{% macro keys_found(batches) -%}
    select
        structures.structure,
        replace(replace(tree.fullkey, '"', ''), '[0]', '[]')[3:] as key,
        case
            when tree.type = 'OBJECT' then 'object'
            when tree.type = 'ARRAY' then 'list'
            when tree.atom ->> '$' in ('UBIGINT', 'BIGINT', 'HUGEINT') then 'integer'
            when tree.atom ->> '$' = 'DOUBLE' then 'number'
            when tree.atom ->> '$' = 'VARCHAR' then 'text'
            when tree.atom ->> '$' = 'BOOLEAN' then 'boolean'
            when tree.atom ->> '$' = 'NULL' then 'null'
            else 'of several types'
        end as type
    from (select distinct structure from {{ batches }}) as structures
    cross join json_tree(structures.structure) as tree
{%- endmacro %}


{#- Every key in the source's description; without a type where no model reads it. -#}
{% macro keys_documented(source_name, table_name) -%}
    {%- set keys = [] -%}
    {%- for table in (graph.sources.values() if execute else []) if table.source_name == source_name and table.name == table_name -%}
        {%- for column in table.columns.values() -%}
            {%- set type = "'" ~ column.data_type ~ "'" if column.data_type else 'null' -%}
            {%- do keys.append("('" ~ column.name ~ "', " ~ type ~ ")") -%}
        {%- endfor -%}
    {%- endfor -%}
    select * from (values {{ keys | join(', ') or "('', null)" }}) as documented (key, type)
{%- endmacro %}
