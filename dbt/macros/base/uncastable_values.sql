{#-
    The values of `records` that staging could not cast, as one list of problems a batch: each names a key, one of its
    values and how many there are. One scan, whatever the number of keys.
-#}
{% macro uncastable_values(source_name) -%}
    {%- set keys = [] -%}
    {%- set plain = [] -%}
    {%- for key in declared_keys(source_name) if key.type and json_kind(key.type) != 'boolean'
        and key.type.split('(')[0] not in ('text', 'varchar') -%}
        {%- do keys.append(key) -%}
        {%- do plain.append(key) if '[]' not in key.parts -%}
    {%- endfor -%}
    {%- if not keys -%}
    select null::text as _batch_id, null::text[] as problems where false
    {%- else -%}
    select
        _batch_id,
        list_filter([
            {%- for key in keys %}
            case when count(bad_{{ loop.index }}) > 0 then format(
                'key {} is {}, expected {} (values like it: {})',
                '{{ key.name | replace("'", "''") }}', left(min(
                    {%- if '[]' in key.parts %}list_min(bad_{{ loop.index }}){% else %}bad_{{ loop.index }}{% endif -%}
                ), 80), '{{ key.type }}',
                {% if '[]' in key.parts %}sum(length(bad_{{ loop.index }})){% else %}count(bad_{{ loop.index }}){% endif %}
            ) end{{ ',' if not loop.last }}
            {%- endfor %}
        ], lambda problem: problem is not null) as problems
    from (
        select
            _batch_id,
            {%- for key in keys %}
            {%- if '[]' in key.parts %}
            nullif(list_filter(
                record ->> {{ key_path(key.parts) }},
                lambda value: value is not null and ({{ cast_text('value', key.type, 'try_cast') }}) is null
            ), []) as bad_{{ loop.index }}{{ ',' if not loop.last }}
            {%- else %}
            {%- set value = 'texts[' ~ (plain.index(key) + 1) ~ ']' %}
            case
                when {{ value }} is not null and ({{ cast_text(value, key.type, 'try_cast') }}) is null then {{ value }}
            end as bad_{{ loop.index }}{{ ',' if not loop.last }}
            {%- endif %}
            {%- endfor %}
        from (
            select
                _batch_id,
                record,
                {{ key_texts('record', plain) }} as texts
            from (
                select
                    _batch_id,
                    {{ exact_numbers('record') }} as record
                from records
            )
        )
    )
    group by _batch_id
    having {% for key in keys %}count(bad_{{ loop.index }}) > 0{{ ' or ' if not loop.last }}{% endfor %}
    {%- endif -%}
{%- endmacro %}
