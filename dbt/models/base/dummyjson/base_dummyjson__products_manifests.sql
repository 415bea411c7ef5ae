{{ config(pre_hook="{{ forget_quarantined('dummyjson.products') }}") }}

{{ landed_manifests(source('dummyjson', 'products')) }}
