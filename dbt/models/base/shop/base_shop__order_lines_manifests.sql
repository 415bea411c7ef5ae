{{ config(pre_hook="{{ delete_quarantined_batches('shop.order_lines') }}") }}

{{ landed_manifests(source('shop', 'order_lines')) }}
