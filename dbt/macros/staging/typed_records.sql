{#-
    The records of a source: a column for each key that `__sources.yml` gives a type, cast to it and named as it is there, and
    `_record`, the record as JSON. Keys inside lists are not among them; see `typed_items`.
-#}
{% macro typed_records(source_name) -%}
    {%- set keys = typed_keys(source_name) %}
    select
        _batch_id,
        _extracted_at,
        _row_number,
        _record
        {%- for key in keys %},
        {{ cast_text('_texts[' ~ loop.index ~ ']', key.type) }} as "{{ key.name | replace('"', '""') }}"
        {%- endfor %}
    from (
        select
            *,
            {{ key_texts('_record', keys) }} as _texts
        from (
            select
                _batch_id,
                _extracted_at,
                _row_number,
                {{ exact_numbers('record') }} as _record
            from {{ ref(base_of(source_name)) }}
        )
    )
{%- endmacro %}
