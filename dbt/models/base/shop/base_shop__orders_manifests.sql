{{ config(pre_hook="{{ delete_quarantined_batches('shop.orders') }}") }}

{{ landed_manifests(source('shop', 'orders')) }}
