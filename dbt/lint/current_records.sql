{{ current_records('base_shop__orders', version='at') }}
