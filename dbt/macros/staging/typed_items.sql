{#-
    The items of a list in the records of a source, such as `reviews[]`: the columns of `typed_records`, `_position` from 1,
    and a column for each key of an item that has a type, named as in `__sources.yml`: "reviews[].rating".
-#}
{% macro typed_items(source_name, list_name) -%}
    {%- set list_parts = key_parts(list_name) -%}
    {%- set keys = typed_keys(source_name, list_parts) %}
    select
        records.*,
        _position
        {%- for key in keys %},
        {{ cast_text('_item_texts[' ~ loop.index ~ ']', key.type) }} as "{{ key.name | replace('"', '""') }}"
        {%- endfor %}
    from (
        {{- typed_records(source_name) | indent }}
    ) as records
    cross join lateral (
        select
            _position,
            {{ key_texts('_item', keys) }} as _item_texts
        from unnest(records._record -> {{ key_path(list_parts) }}) with ordinality as items (_item, _position)
    )
{%- endmacro %}
