with

source as (

    {{ typed_records('shop.orders') }}

),

renamed as (

    select
        _batch_id,
        _extracted_at,
        _row_number,
        order_id,
        "customer.number" as customer_number,
        status,
        currency,
        total,
        placed_at,
        updated_at
    from source

)

select * from renamed
