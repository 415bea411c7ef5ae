with

source as (

    {{ typed_records('shop.order_lines') }}

),

renamed as (

    select
        _batch_id,
        _extracted_at,
        _row_number,
        order_id,
        line,
        sku,
        quantity,
        unit_price
    from source

)

select * from renamed
