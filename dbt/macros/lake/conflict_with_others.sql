{#-
    On the lake, what keeps two builds of one source apart if their locks (flows/processing/source_locks.py) do not.

    Two transactions that append to a table do not conflict in DuckLake, two that replace one do. So each transaction
    of the base layer replaces a table beside its model: of two at once the second to commit fails and changes nothing.
    One that begins after the other has committed sees its rows; what it found missing when it was compiled is asked
    again in the transaction (`still_missing`). The marts that are kept incrementally replace their `__batches` anyway.
-#}
{% macro conflict_with_others() -%}
    {%- if target.name == 'lake' and is_incremental() -%}
        create or replace table {{ this.incorporate(path={'identifier': this.identifier ~ '__turn'}) }} as
        select now() as at;
    {% endif -%}
{%- endmacro %}
