{{ config(pre_hook="{{ delete_quarantined_batches('dummyjson.products') }}") }}

{{ landed_manifests(source('dummyjson', 'products')) }}
