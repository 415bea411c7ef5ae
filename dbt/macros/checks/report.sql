{#-
    A test that names what it found. `problems` is a query for one text column, `problem`, a row a problem.

    An error carries the problems in its message, as dbt's "Got 2 results" would not; a warning logs them.
-#}
{% macro report(problems) -%}
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
