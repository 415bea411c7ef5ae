{#-
    Every key in the records, as a path (see `key_parts`), with its type. Once for each structure and not for each batch:
    most batches have one that others have, too.
-#}
{% macro keys_found(batches) -%}
    with recursive

    structures as (

        select
            structure,
            row_number() over () as structure_id
        from (select distinct structure from {{ batches }})

    ),

    nodes as (

        select
            structures.structure_id,
            tree.id,
            tree.parent,
            tree.key,
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
        from structures
        cross join json_tree(structures.structure) as tree

    ),

    paths as (

        select
            structure_id,
            id,
            []::text[] as parts,
            type
        from nodes
        where parent is null
        union all
        select
            nodes.structure_id,
            nodes.id,
            list_append(paths.parts, case when paths.type = 'list' then '[]' else '.' || nodes.key end) as parts,
            nodes.type
        from nodes
        inner join paths
            on
                nodes.structure_id = paths.structure_id
                and nodes.parent = paths.id

    )

    select
        structures.structure,
        paths.parts,
        {{ key_name('paths.parts') }} as key,
        paths.type
    from paths
    inner join structures
        on paths.structure_id = structures.structure_id
{%- endmacro %}
