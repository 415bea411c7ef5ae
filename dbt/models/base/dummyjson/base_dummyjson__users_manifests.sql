{{ config(pre_hook="{{ delete_quarantined_batches('dummyjson.users') }}") }}

{{ landed_manifests(source('dummyjson', 'users')) }}
