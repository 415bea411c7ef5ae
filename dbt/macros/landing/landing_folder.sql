{#-
    The landing folder of a source, as a SQL literal without its quotes in which every character means itself: DuckDB
    takes `*`, `?` and `[` in a path for a pattern unless they are in brackets.
-#}
{% macro landing_folder(source_relation) -%}
    {%- set root = env_var('BATON_LANDING_ROOT', '../data/landing').rstrip('/') -%}
    {%- if '\\' in root or ('://' in root and modules.re.search('[*?[]', root)) -%}
        {%- do exceptions.raise_compiler_error(
            "BATON_LANDING_ROOT: expected a folder without a backslash, or a URL without *, ? and [, which DuckDB "
            ~ "cannot read literally; got " ~ root ~ ". Move the landing, or mount it under another name."
        ) -%}
    {%- endif -%}
    {%- set folder = [root, source_relation.schema, source_relation.identifier] | join('/') -%}
    {{- return(modules.re.sub('([*?[])', '[\\1]', folder) | replace("'", "''")) -}}
{%- endmacro %}
