{#-
    Type 2, made from the batches with window functions, never from the order in which they came. When batches came
    or went, the timeline is made again from the earliest of them on; what lies before stays as it is. The usual
    batch is the newest, so that is one batch against the versions that are current.
-#}
{%- set attributes = [
    'sku', 'product_title', 'brand', 'category', 'price', 'discount_percentage', 'minimum_order_quantity', 'weight'
] -%}
{%- set batches = ref('base_dummyjson__products_batches') -%}
{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='product_version_id',
    on_schema_change='fail',
    pre_hook="{{ forget_versions_since_change(ref('base_dummyjson__products_batches')) }}",
    post_hook="{{ remember_batches(ref('base_dummyjson__products_batches')) }}",
) }}

with

changed as (

    {{ changed_batches(batches) }}

),

{# The readings to go through, in order. Two of the same instant would make versions of no length. #}
timeline as (

    select
        _batch_id,
        _extracted_at,
        row_number() over (order by _extracted_at) as reading
    from {{ batches }}
    where _extracted_at >= (select min(changed._extracted_at) from changed)
    qualify row_number() over (partition by _extracted_at order by _batch_id desc) = 1

),

{# What each reading says, and as reading 0 what was valid just before. #}
observed as (

    select
        products.product_id,
        timeline.reading,
        products._extracted_at as valid_from,
        false as was_current,
        products._batch_id,
        {{ struct_of(attributes, 'products') }} as attributes
    from {{ ref('stg_dummyjson__products') }} as products
    inner join timeline
        on products._batch_id = timeline._batch_id
    {% if is_incremental() %}
        union all
        select
            history.product_id,
            0 as reading,
            history.valid_from,
            history.valid_to is null as was_current,
            history._batch_id,
            {{ struct_of(attributes, 'history') }} as attributes
        from {{ this }} as history
        where
            history.valid_from < (select min(changed._extracted_at) from changed)
            and (history.valid_to is null or history.valid_to >= (select min(changed._extracted_at) from changed))
    {% endif %}

),

compared as (

    select
        *,
        lag(reading) over product as reading_before,
        lag(attributes) over product as attributes_before
    from observed
    window product as (partition by product_id order by reading)

),

{# A version ends where the attributes differ, and where a reading did not have the product. #}
numbered as (

    select
        *,
        count(*) filter (
            reading_before is null
            or reading > reading_before + 1
            or attributes is distinct from attributes_before
        ) over (partition by product_id order by reading) as version_number
    from compared

),

versions as (

    select
        product_id,
        version_number,
        min(valid_from) as valid_from,
        max(reading) as last_reading,
        bool_or(was_current) as was_current,
        arg_min(_batch_id, reading) as _batch_id,
        arg_min(attributes, reading) as attributes
    from numbered
    group by product_id, version_number

)

select
    versions.product_id || '-' || versions._batch_id as product_version_id,
    versions.product_id,
    {% for attribute in attributes %}
        versions.attributes.{{ attribute }},
    {% endfor %}
    versions.valid_from,
    timeline._extracted_at as valid_to,
    timeline._extracted_at is null as is_current,
    versions._batch_id
from versions
left join timeline
    on versions.last_reading + 1 = timeline.reading
-- what was current and still is need not be written again
where not (versions.was_current and timeline._extracted_at is null)
