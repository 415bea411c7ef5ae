{{ config(pre_hook="{{ delete_quarantined_batches('dummyjson.carts') }}") }}

{{ landed_manifests(source('dummyjson', 'carts')) }}
