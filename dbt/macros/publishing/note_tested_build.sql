{#- After the last node: that all which this invocation has built passed its tests. -#}
{% macro note_tested_build(results) -%}
    {%- set failed = results | selectattr('status', 'in', ['error', 'fail', 'skipped', 'runtime error', 'partial success']) | list -%}
    {%- if execute and flags.WHICH == 'build' and not failed -%}
        create schema if not exists ops;
        create table if not exists ops.tested_builds (invocation_id text, tested_at timestamptz);
        insert into ops.tested_builds values ('{{ invocation_id }}', now());
    {%- endif -%}
{%- endmacro %}
