{{ test_batches_are_sound(ref('base_shop__orders_batches'), 'shop', 'orders') }}
