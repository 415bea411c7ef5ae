{#-
    Type 2 history of a staging view, for an incremental mart: `keys`, `attributes`, valid_from, valid_to, is_current and the
    `_batch_id` that a version came with. Made from the batches with window functions, never from the order in which they
    came. When batches came or went, the timeline is made again from the earliest of them on; what lies before stays as it
    is. The usual batch is the newest, so that is one batch against the versions that are current.

    A version ends where the attributes differ and, in a full reading, where the record is missing. A reading of changes
    says nothing about what it does not hold. With `version`, one of the attributes, a record that is older than what had
    been read before changes nothing.
-#}
{% macro history(staging, batches, keys, attributes, version=none) -%}
with

changed as (

    {{ changed_batches(batches) }}

),

since as (

    select min(_extracted_at) as changed_at
    from changed

),

{# The readings to go through, in order. Of two full ones of the same instant the last counts. #}
timeline as (

    select
        _batch_id,
        _extracted_at,
        reading as kind,
        dense_rank() over (order by _extracted_at) as reading,
        count(*) filter (reading = 'full') over (order by _extracted_at) as full_readings
    from (
        select *
        from {{ batches }}
        where _extracted_at >= (select since.changed_at from since)
        qualify reading = 'changes' or row_number() over (partition by reading, _extracted_at order by _batch_id desc) = 1
    )

),

{# What each reading says, and as reading 0 what was valid just before. #}
observed as (

    select
        {% for key in keys %}
            records.{{ key }},
        {% endfor %}
        timeline.reading,
        timeline.full_readings,
        timeline.full_readings - (timeline.kind = 'full')::bigint as full_readings_before,
        records._extracted_at as valid_from,
        false as was_current,
        records._batch_id,
        {{ struct_of(attributes, 'records') }} as attributes
    from {{ staging }} as records
    inner join timeline
        on records._batch_id = timeline._batch_id
    {% if is_incremental() %}
        union all
        select
            {% for key in keys %}
                history.{{ key }},
            {% endfor %}
            0 as reading,
            0 as full_readings,
            0 as full_readings_before,
            history.valid_from,
            history.valid_to is null as was_current,
            history._batch_id,
            {{ struct_of(attributes, 'history') }} as attributes
        from {{ this }} as history
        cross join since
        where
            history.valid_from < since.changed_at
            and (history.valid_to is null or history.valid_to >= since.changed_at)
    {% endif %}

),

{# One observation of a record in each reading, with the newest attributes that had been seen by then. #}
known as (

    select
        * exclude (attributes)
        {%- if version %},
        arg_max(attributes, (attributes.{{ version }}, reading)) over (
            partition by {{ keys | join(', ') }} order by reading rows unbounded preceding
        ) as attributes
        {%- else %},
        attributes
        {%- endif %}
    from observed
    qualify
        row_number() over (
            partition by {{ keys | join(', ') }}, reading
            order by {% if version %}observed.attributes.{{ version }} desc nulls last, {% endif %}_batch_id desc
        ) = 1

),

compared as (

    select
        *,
        lag(full_readings) over record as full_readings_at_last,
        lag(attributes) over record as attributes_before
    from known
    window record as (partition by {{ keys | join(', ') }} order by reading)

),

{# A version ends where the attributes differ, and where a full reading in between did not have the record. #}
numbered as (

    select
        *,
        count(*) filter (
            full_readings_at_last is null
            or full_readings_before > full_readings_at_last
            or attributes is distinct from attributes_before
        ) over (partition by {{ keys | join(', ') }} order by reading) as version_number
    from compared

),

versions as (

    select
        {% for key in keys %}
            {{ key }},
        {% endfor %}
        version_number,
        min(valid_from) as valid_from,
        max(full_readings) as full_readings,
        bool_or(was_current) as was_current,
        arg_min(_batch_id, reading) as _batch_id,
        arg_min(attributes, reading) as attributes
    from numbered
    group by {{ keys | join(', ') }}, version_number

),

{# The first full reading after the last that had the record closes its version, unless another version did before. #}
closed as (

    select
        versions.*,
        least(
            lead(versions.valid_from) over (
                partition by {% for key in keys %}versions.{{ key }}{{ ', ' if not loop.last }}{% endfor %}
                order by versions.version_number
            ),
            next_full._extracted_at
        ) as valid_to
    from versions
    left join timeline as next_full
        on
            versions.full_readings + 1 = next_full.full_readings
            and next_full.kind = 'full'

)

select
    {% for key in keys %}
        {{ key }},
    {% endfor %}
    {% for attribute in attributes %}
        attributes.{{ attribute }},
    {% endfor %}
    valid_from,
    valid_to,
    valid_to is null as is_current,
    _batch_id
from closed
-- what was current and still is need not be written again
where not (was_current and valid_to is null)
{%- endmacro %}
