{#-
    The same from the file itself: dbt gives unit tests no graph. The project's folder is the working directory or
    DBT_PROJECT_DIR, or else where profiles.yml is.
-#}
{% macro declaration_in_file(source_name) -%}
    {%- set files = env_var('DBT_PROJECT_DIR', flags.PROFILES_DIR or '.') ~ '/models/**/__sources.yml' -%}
    {%- for (content,) in run_query("select content from read_text('" ~ (files | replace("'", "''")) ~ "')").rows -%}
        {%- for source in fromyaml(content).sources -%}
            {%- for table in source.tables if source.name ~ '.' ~ table.name == source_name -%}
                {%- set columns = {} -%}
                {%- for column in table.columns -%}
                    {%- do columns.update({column.name: column}) -%}
                {%- endfor -%}
                {{- return({'columns': columns, 'config': table.config}) -}}
            {%- endfor -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- do exceptions.raise_compiler_error(
        source_name ~ ": expected its declaration in " ~ files ~ "; set DBT_PROJECT_DIR to the folder of dbt_project.yml"
    ) -%}
{%- endmacro %}
