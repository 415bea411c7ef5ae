{{ test_batches_are_as_usual(ref('base_shop__orders_batches'), 'shop', 'orders') }}
